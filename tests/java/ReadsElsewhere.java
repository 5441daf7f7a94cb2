import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;

/** Where reads go, as the servers say that answer them. */
final class ReadsElsewhere {
    private static final String ON_A_REPLICA = "SELECT on_a_replica()";

    public static void main(String[] arguments) {
        Report report = new Report(arguments[0]);
        report.add("transactions that only read", ReadsElsewhere::readOnly);
        report.add("a session that only reads", ReadsElsewhere::alwaysReadOnly);
        report.add("single statements", ReadsElsewhere::singleStatements);
        report.add("prepared on the server", ReadsElsewhere::prepared);
        report.add("a cursor with a fetch size", ReadsElsewhere::cursor);
        report.print();
    }

    private static void readOnly() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            connection.setAutoCommit(false);
            for (int turn = 0; turn < 8; turn++) {
                connection.setReadOnly(true);
                Report.equal(Jdbc.text(statement, ON_A_REPLICA), "t");
                connection.commit();
                connection.setReadOnly(false);
                Report.equal(Jdbc.text(statement, ON_A_REPLICA), "f");
                connection.commit();
            }
        }
    }

    private static void alwaysReadOnly() throws Exception {
        try (Connection connection = Report.connect("readOnlyMode", "always");
             Statement statement = connection.createStatement()) {
            connection.setReadOnly(true);
            for (int turn = 0; turn < 8; turn++) {
                Report.equal(Jdbc.text(statement, ON_A_REPLICA), "t");
            }
            connection.setReadOnly(false);
            statement.execute("CREATE TABLE IF NOT EXISTS jdbc_elsewhere (a int)");
            statement.execute("DROP TABLE jdbc_elsewhere");
        }
    }

    private static void singleStatements() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            for (int turn = 0; turn < 8; turn++) {
                Report.equal(Jdbc.text(statement, ON_A_REPLICA), "t");
            }
        }
    }

    private static void prepared() throws Exception {
        Report.together(4, number -> {
            try (Connection connection = Report.connect("prepareThreshold", "1");
                 PreparedStatement statement =
                     connection.prepareStatement("SELECT on_a_replica(), ?::int")) {
                for (int turn = 0; turn < 20; turn++) {
                    statement.setInt(1, turn);
                    try (ResultSet rows = statement.executeQuery()) {
                        Report.holds(rows.next(), "a row");
                        Report.equal(rows.getString(1), "t");
                        Report.equal(rows.getInt(2), turn);
                    }
                }
            }
        });
    }

    private static void cursor() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            statement.setFetchSize(10);
            try (ResultSet rows = statement.executeQuery(
                     "SELECT g, on_a_replica() FROM generate_series(1, 100) g")) {
                int expected = 0;
                while (rows.next()) {
                    expected++;
                    Report.equal(rows.getInt(1), expected);
                    Report.equal(rows.getString(2), "t");
                }
                Report.equal(expected, 100);
            }
            connection.commit();
        }
    }
}
