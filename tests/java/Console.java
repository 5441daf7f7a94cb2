import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;

/** The admin console, by PostgreSQL's JDBC driver in each of its modes. */
final class Console {
    public static void main(String[] arguments) {
        Report report = new Report(arguments[0]);
        for (String mode : new String[] {"simple", "extended", "extendedCacheEverything"}) {
            report.add("tables in mode " + mode, () -> tables(mode));
            report.add("commands in mode " + mode, () -> commands(mode));
            report.add("errors in mode " + mode, () -> errors(mode));
            report.add("a pool's habits in mode " + mode, () -> habits(mode));
        }
        report.print();
    }

    private static void tables(String mode) throws Exception {
        try (Connection connection = Report.connect("preferQueryMode", mode);
             Statement statement = connection.createStatement()) {
            for (String what : new String[] {"POOLS", "CLIENTS", "STATS", "LISTS", "CONFIG", "NODES"}) {
                for (int turn = 0; turn < 7; turn++) {
                    try (ResultSet rows = statement.executeQuery("SHOW " + what)) {
                        Report.holds(rows.next(), "rows of " + what);
                        Report.holds(rows.getString(1) != null, "the first column of " + what);
                    }
                }
            }
            try (ResultSet rows = statement.executeQuery("SHOW DATABASES")) {
                List<Integer> ports = new ArrayList<>();
                while (rows.next()) {
                    ports.add(rows.getInt("port"));
                }
                Report.holds(ports.size() > 1 && ports.get(0) >= 0, "ports of databases");
            }
        }
    }

    private static void commands(String mode) throws Exception {
        try (Connection connection = Report.connect("preferQueryMode", mode);
             Statement statement = connection.createStatement();
             PreparedStatement reload = connection.prepareStatement("RELOAD")) {
            statement.execute("SET default_pool_size = 7");
            try (ResultSet rows = statement.executeQuery("SHOW CONFIG")) {
                boolean found = false;
                while (rows.next()) {
                    found |= rows.getString("key").equals("default_pool_size")
                        && rows.getString("value").equals("7");
                }
                Report.holds(found, "what was set");
            }
            for (int turn = 0; turn < 7; turn++) {
                reload.execute();
            }
            statement.execute("PAUSE");
            statement.execute("RESUME");
        }
    }

    private static void errors(String mode) throws Exception {
        try (Connection connection = Report.connect("preferQueryMode", mode);
             Statement statement = connection.createStatement()) {
            for (int turn = 0; turn < 7; turn++) {
                Report.refused("42601", () -> statement.execute("SHOW NOTHING"));
                Report.holds(statement.execute("SHOW VERSION"), "it goes on");
            }
        }
    }

    private static void habits(String mode) throws Exception {
        try (Connection connection = Report.connect("preferQueryMode", mode);
             Statement statement = connection.createStatement()) {
            Report.holds(connection.isValid(5), "it is valid");
            connection.setClientInfo("ApplicationName", "a pool");
            connection.setAutoCommit(false);
            Report.holds(statement.execute("SHOW VERSION"), "in a transaction");
            connection.commit();
            Report.holds(statement.execute("SHOW VERSION"), "in another");
            connection.rollback();
            connection.setAutoCommit(true);
            try (ResultSet rows = statement.executeQuery("SELECT 1")) {
                Report.holds(rows.next() && rows.getInt(1) == 1, "one");
            }
        }
    }
}
