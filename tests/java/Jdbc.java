import java.io.ByteArrayInputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.Executor;

import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** What applications do with PostgreSQL's JDBC driver. */
final class Jdbc {
    private static final String[] MODES = {
        "simple", "extended", "extendedForPrepared", "extendedCacheEverything",
    };

    public static void main(String[] arguments) {
        Report report = new Report(arguments[0]);
        for (String mode : MODES) {
            report.add("queries in mode " + mode, () -> queries(mode));
            report.add("transactions in mode " + mode, () -> transactions(mode));
            report.add("errors in mode " + mode, () -> errors(mode));
        }
        report.add("several statements", Jdbc::severalStatements);
        report.add("parameters of many kinds", Jdbc::manyKinds);
        report.add("prepared on the server", Jdbc::prepared);
        report.add("prepared on the server at once", Jdbc::preparedAtOnce);
        report.add("more statements than the driver keeps", Jdbc::manyStatements);
        report.add("a schema that changes", Jdbc::changedSchema);
        report.add("batches", () -> batches("false"));
        report.add("batches that are rewritten", () -> batches("true"));
        report.add("a batch that fails", Jdbc::failingBatch);
        report.add("a cursor with a fetch size", Jdbc::cursor);
        report.add("cursors side by side", Jdbc::cursorsSideBySide);
        report.add("COPY", Jdbc::copy);
        report.add("COPY that fails", Jdbc::failingCopy);
        report.add("LISTEN", Jdbc::listen);
        report.add("read only", Jdbc::readOnly);
        report.add("read only for the session", Jdbc::alwaysReadOnly);
        report.add("settings", Jdbc::settings);
        report.add("settings stay with their connection", Jdbc::settingsStay);
        report.add("isolation", Jdbc::isolation);
        report.add("savepoints", Jdbc::savepoints);
        report.add("savepoints of the driver's own", Jdbc::autosave);
        report.add("query timeout", Jdbc::queryTimeout);
        report.add("cancel", Jdbc::cancel);
        report.add("functions", Jdbc::functions);
        report.add("large objects", Jdbc::largeObjects);
        report.add("generated keys", Jdbc::generatedKeys);
        report.add("updatable rows", Jdbc::updatableRows);
        report.add("temporary tables", Jdbc::temporaryTables);
        report.add("a large result", Jdbc::largeResult);
        report.add("a large parameter", Jdbc::largeParameter);
        report.add("is valid", Jdbc::isValid);
        report.add("metadata", Jdbc::metadata);
        report.print();
    }

    private static void queries(String mode) throws Exception {
        Report.together(6, number -> {
            try (Connection connection = Report.connect("preferQueryMode", mode);
                 Statement statement = connection.createStatement();
                 PreparedStatement prepared = connection.prepareStatement("SELECT ?::int, ?::text")) {
                for (int turn = 0; turn < 20; turn++) {
                    Report.equal(text(statement, "SELECT " + turn), "" + turn);
                    prepared.setInt(1, number);
                    prepared.setString(2, "it's " + turn);
                    try (ResultSet rows = prepared.executeQuery()) {
                        Report.holds(rows.next(), "a row");
                        Report.equal(rows.getInt(1), number);
                        Report.equal(rows.getString(2), "it's " + turn);
                    }
                }
            }
        });
    }

    private static void transactions(String mode) throws Exception {
        String table = "jdbc_" + mode.toLowerCase();
        try (Connection connection = Report.connect("preferQueryMode", mode);
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS " + table);
            statement.execute("CREATE TABLE " + table + " (id int)");
            Report.together(6, number -> {
                try (Connection other = Report.connect("preferQueryMode", mode);
                     PreparedStatement insert =
                         other.prepareStatement("INSERT INTO " + table + " VALUES (?)")) {
                    other.setAutoCommit(false);
                    for (int turn = 0; turn < 8; turn++) {
                        insert.setInt(1, number);
                        Report.equal(insert.executeUpdate(), 1);
                        if (turn % 2 == 0) {
                            other.commit();
                        } else {
                            other.rollback();
                        }
                    }
                }
            });
            Report.equal(text(statement, "SELECT count(*) FROM " + table), "24");
            statement.execute("DROP TABLE " + table);
        }
    }

    private static void errors(String mode) throws Exception {
        try (Connection connection = Report.connect("preferQueryMode", mode);
             Statement statement = connection.createStatement()) {
            for (int turn = 0; turn < 8; turn++) {
                Report.refused("42601", () -> statement.execute("SELEKT"));
                Report.refused("22012", () -> text(statement, "SELECT 1/0"));
                Report.refused("42P01", () -> text(statement, "SELECT * FROM nowhere"));
                Report.equal(text(statement, "SELECT 1"), "1");
            }
            connection.setAutoCommit(false);
            Report.refused("22012", () -> text(statement, "SELECT 1/0"));
            Report.refused("25P02", () -> text(statement, "SELECT 1"));
            connection.rollback();
            Report.equal(text(statement, "SELECT 2"), "2");
        }
    }

    private static void severalStatements() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            Report.holds(statement.execute("SELECT 1; SELECT 2"), "rows");
            Report.equal(only(statement.getResultSet()), "1");
            Report.holds(statement.getMoreResults(), "more rows");
            Report.equal(only(statement.getResultSet()), "2");
            Report.holds(!statement.execute(""), "no rows");
        }
    }

    private static void manyKinds() throws Exception {
        UUID uuid = UUID.fromString("4bf92f35-77b3-4da6-a3ce-929d0e0e4736");
        Timestamp when = Timestamp.valueOf("2020-01-02 03:04:05.678");
        byte[] octets = {0, -1, 7};
        try (Connection connection = Report.connect("prepareThreshold", "2");
             PreparedStatement statement = connection.prepareStatement(
                 "SELECT ?::int8, ?::numeric, ?::bool, ?::timestamptz, ?::bytea, ?::uuid, ?::int[],"
                     + " ?::text")) {
            for (int turn = 0; turn < 6; turn++) {
                statement.setLong(1, Long.MAX_VALUE);
                statement.setBigDecimal(2, new BigDecimal("1.50"));
                statement.setBoolean(3, true);
                statement.setTimestamp(4, when);
                statement.setBytes(5, octets);
                statement.setObject(6, uuid);
                statement.setArray(7, connection.createArrayOf("int4", new Object[] {1, turn}));
                statement.setNull(8, Types.VARCHAR);
                try (ResultSet rows = statement.executeQuery()) {
                    Report.holds(rows.next(), "a row");
                    Report.equal(rows.getLong(1), Long.MAX_VALUE);
                    Report.equal(rows.getBigDecimal(2), new BigDecimal("1.50"));
                    Report.equal(rows.getBoolean(3), true);
                    Report.equal(rows.getTimestamp(4), when);
                    Report.equal(rows.getBytes(5), octets);
                    Report.equal(rows.getObject(6), uuid);
                    Array array = rows.getArray(7);
                    Report.equal(array.getArray(), new Integer[] {1, turn});
                    Report.equal(rows.getString(8), null);
                }
            }
        }
    }

    private static void prepared() throws Exception {
        Report.together(6, number -> {
            try (Connection connection = Report.connect();
                 PreparedStatement statement =
                     connection.prepareStatement("SELECT 'client " + number + "', ?::int")) {
                for (int turn = 0; turn < 30; turn++) {
                    statement.setInt(1, turn);
                    try (ResultSet rows = statement.executeQuery()) {
                        Report.holds(rows.next(), "a row");
                        Report.equal(rows.getString(1), "client " + number);
                        Report.equal(rows.getInt(2), turn);
                    }
                }
                PGStatement known = statement.unwrap(PGStatement.class);
                Report.holds(known.isUseServerPrepare(), "it is prepared on the server");
            }
        });
    }

    private static void preparedAtOnce() throws Exception {
        Report.together(6, number -> {
            try (Connection connection = Report.connect("prepareThreshold", "-1")) {
                for (int turn = 0; turn < 20; turn++) {
                    String text = "SELECT " + turn % 3 + " + ?::int";
                    try (PreparedStatement statement = connection.prepareStatement(text)) {
                        statement.setInt(1, number);
                        try (ResultSet rows = statement.executeQuery()) {
                            Report.holds(rows.next(), "a row");
                            Report.equal(rows.getInt(1), number + turn % 3);
                        }
                    }
                }
            }
        });
    }

    private static void manyStatements() throws Exception {
        try (Connection connection =
                 Report.connect("prepareThreshold", "1", "preparedStatementCacheQueries", "4")) {
            for (int turn = 0; turn < 60; turn++) {
                String text = "SELECT ?::int + " + turn % 20;
                try (PreparedStatement statement = connection.prepareStatement(text)) {
                    statement.setInt(1, turn);
                    try (ResultSet rows = statement.executeQuery()) {
                        Report.holds(rows.next(), "a row");
                        Report.equal(rows.getInt(1), turn + turn % 20);
                    }
                }
            }
        }
    }

    private static void changedSchema() throws Exception {
        try (Connection connection = Report.connect("prepareThreshold", "1");
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_changes");
            statement.execute("CREATE TABLE jdbc_changes (a int)");
            statement.execute("INSERT INTO jdbc_changes VALUES (1)");
            try (PreparedStatement all = connection.prepareStatement("SELECT * FROM jdbc_changes")) {
                for (int columns = 1; columns < 4; columns++) {
                    for (int turn = 0; turn < 3; turn++) {
                        try (ResultSet rows = all.executeQuery()) {
                            Report.equal(rows.getMetaData().getColumnCount(), columns);
                            Report.holds(rows.next(), "a row");
                        }
                    }
                    statement.execute("ALTER TABLE jdbc_changes ADD b" + columns + " int");
                }
            }
            statement.execute("DROP TABLE jdbc_changes");
        }
    }

    private static void batches(String rewritten) throws Exception {
        String table = "jdbc_batches_" + rewritten;
        try (Connection connection = Report.connect("reWriteBatchedInserts", rewritten);
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS " + table);
            statement.execute("CREATE TABLE " + table + " (id int, v text)");
            for (boolean autocommit : new boolean[] {true, false}) {
                connection.setAutoCommit(autocommit);
                try (PreparedStatement insert =
                         connection.prepareStatement("INSERT INTO " + table + " VALUES (?, ?)")) {
                    for (int row = 0; row < 500; row++) {
                        insert.setInt(1, row);
                        insert.setString(2, "v" + row);
                        insert.addBatch();
                    }
                    Report.equal(insert.executeBatch().length, 500);
                }
                statement.addBatch("UPDATE " + table + " SET v = 'w' WHERE id = 1");
                statement.addBatch("DELETE FROM " + table + " WHERE id = 2");
                Report.equal(statement.executeBatch().length, 2);
                if (!autocommit) {
                    connection.commit();
                }
            }
            Report.equal(text(statement, "SELECT count(*) FROM " + table), "998");
            statement.execute("DROP TABLE " + table);
            connection.commit();
        }
    }

    private static void failingBatch() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_unique");
            statement.execute("CREATE TABLE jdbc_unique (id int PRIMARY KEY)");
            try (PreparedStatement insert =
                     connection.prepareStatement("INSERT INTO jdbc_unique VALUES (?)")) {
                for (int row : new int[] {1, 2, 2, 3}) {
                    insert.setInt(1, row);
                    insert.addBatch();
                }
                insert.executeBatch();
                throw new AssertionError("it did not fail");
            } catch (BatchUpdateException failed) {
                Report.equal(failed.getSQLState(), "23505");
            }
            Report.equal(text(statement, "SELECT count(*) FROM jdbc_unique"), "0");
            statement.execute("DROP TABLE jdbc_unique");
        }
    }

    private static void cursor() throws Exception {
        Report.together(4, number -> {
            try (Connection connection = Report.connect()) {
                connection.setAutoCommit(false);
                try (PreparedStatement statement =
                         connection.prepareStatement("SELECT g FROM generate_series(1, ?) g")) {
                    for (int turn = 0; turn < 8; turn++) {
                        statement.setFetchSize(50);
                        statement.setInt(1, 1000);
                        int expected = 0;
                        try (ResultSet rows = statement.executeQuery()) {
                            while (rows.next()) {
                                expected++;
                                Report.equal(rows.getInt(1), expected);
                            }
                        }
                        Report.equal(expected, 1000);
                        connection.commit();
                    }
                }
            }
        });
    }

    private static void cursorsSideBySide() throws Exception {
        try (Connection connection = Report.connect()) {
            connection.setAutoCommit(false);
            try (Statement one = connection.createStatement();
                 Statement two = connection.createStatement()) {
                one.setFetchSize(10);
                two.setFetchSize(7);
                try (ResultSet ones = one.executeQuery("SELECT g FROM generate_series(1, 100) g");
                     ResultSet twos = two.executeQuery("SELECT -g FROM generate_series(1, 100) g")) {
                    for (int row = 1; row <= 100; row++) {
                        Report.holds(ones.next() && twos.next(), "rows in both");
                        Report.equal(ones.getInt(1), row);
                        Report.equal(twos.getInt(1), -row);
                    }
                }
            }
            connection.commit();
        }
    }

    private static void copy() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_copy");
            statement.execute("CREATE TABLE jdbc_copy (id int, v text)");
            StringBuilder lines = new StringBuilder();
            for (int row = 0; row < 20000; row++) {
                lines.append(row).append("\tvalue ").append(row).append('\n');
            }
            CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
            long copied = copy.copyIn("COPY jdbc_copy FROM STDIN", new StringReader(lines.toString()));
            Report.equal(copied, 20000L);
            StringWriter out = new StringWriter();
            copy.copyOut("COPY (SELECT * FROM jdbc_copy ORDER BY id) TO STDOUT", out);
            Report.equal(out.toString(), lines.toString());
            statement.execute("DROP TABLE jdbc_copy");
        }
    }

    private static void failingCopy() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_copy_fails");
            statement.execute("CREATE TABLE jdbc_copy_fails (id int)");
            CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
            byte[] wrong = "1\nno number\n".getBytes(StandardCharsets.UTF_8);
            for (int turn = 0; turn < 3; turn++) {
                Report.refused("22P02", () -> copy.copyIn(
                    "COPY jdbc_copy_fails FROM STDIN", new ByteArrayInputStream(wrong)));
                Report.equal(text(statement, "SELECT count(*) FROM jdbc_copy_fails"), "0");
            }
            statement.execute("DROP TABLE jdbc_copy_fails");
        }
    }

    private static void listen() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement();
             Connection other = Report.connect();
             Statement speaks = other.createStatement()) {
            statement.execute("LISTEN jdbc_news");
            speaks.execute("NOTIFY jdbc_news, 'hear, hear'");
            PGNotification[] heard =
                connection.unwrap(PGConnection.class).getNotifications(10_000);
            Report.equal(heard.length, 1);
            Report.equal(heard[0].getName(), "jdbc_news");
            Report.equal(heard[0].getParameter(), "hear, hear");
            statement.execute("UNLISTEN jdbc_news");
        }
    }

    private static void readOnly() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            Report.equal(text(statement, "SHOW transaction_read_only"), "on");
            Report.refused("25006", () -> statement.execute("CREATE TABLE jdbc_never (a int)"));
            connection.rollback();
            connection.setReadOnly(false);
            Report.equal(text(statement, "SHOW transaction_read_only"), "off");
            connection.commit();
        }
    }

    private static void alwaysReadOnly() throws Exception {
        try (Connection connection = Report.connect("readOnlyMode", "always");
             Statement statement = connection.createStatement();
             Connection other = Report.connect();
             Statement others = other.createStatement()) {
            connection.setReadOnly(true);
            for (int turn = 0; turn < 4; turn++) {
                Report.equal(text(statement, "SHOW transaction_read_only"), "on");
                Report.equal(text(others, "SHOW transaction_read_only"), "off");
            }
            Report.refused("25006", () -> statement.execute("CREATE TABLE jdbc_never (a int)"));
            connection.setReadOnly(false);
            Report.equal(text(statement, "SHOW transaction_read_only"), "off");
        }
    }

    private static void settings() throws Exception {
        try (Connection connection = Report.connect(
                 "ApplicationName", "a JDBC test", "currentSchema", "public,pg_catalog",
                 "options", "-c statement_timeout=4321");
             Statement statement = connection.createStatement()) {
            for (int turn = 0; turn < 4; turn++) {
                Report.equal(text(statement, "SHOW application_name"), "a JDBC test");
                Report.equal(text(statement, "SHOW search_path"), "public,pg_catalog");
                Report.equal(text(statement, "SHOW statement_timeout"), "4321ms");
            }
            connection.setClientInfo("ApplicationName", "renamed");
            connection.setSchema("pg_catalog");
            Report.equal(text(statement, "SHOW application_name"), "renamed");
            Report.equal(connection.getSchema(), "pg_catalog");
        }
    }

    private static void settingsStay() throws Exception {
        Report.together(6, number -> {
            try (Connection connection = Report.connect();
                 Statement statement = connection.createStatement()) {
                statement.execute("SET work_mem = '" + (number + 1) + "MB'");
                for (int turn = 0; turn < 20; turn++) {
                    Report.equal(text(statement, "SHOW work_mem"), (number + 1) + "MB");
                }
                statement.execute("RESET work_mem");
            }
        });
    }

    private static void isolation() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            connection.setAutoCommit(false);
            Report.equal(text(statement, "SHOW transaction_isolation"), "serializable");
            connection.commit();
            Report.equal(text(statement, "SHOW transaction_isolation"), "serializable");
            connection.commit();
        }
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            Report.equal(text(statement, "SHOW transaction_isolation"), "read committed");
        }
    }

    private static void savepoints() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            connection.setAutoCommit(false);
            Savepoint before = connection.setSavepoint("before");
            Report.refused("22012", () -> text(statement, "SELECT 1/0"));
            connection.rollback(before);
            Report.equal(text(statement, "SELECT 1"), "1");
            connection.releaseSavepoint(before);
            connection.commit();
        }
    }

    private static void autosave() throws Exception {
        try (Connection connection = Report.connect("autosave", "always");
             Statement statement = connection.createStatement()) {
            connection.setAutoCommit(false);
            for (int turn = 0; turn < 4; turn++) {
                Report.equal(text(statement, "SELECT 1"), "1");
                Report.refused("22012", () -> text(statement, "SELECT 1/0"));
                Report.equal(text(statement, "SELECT 2"), "2");
            }
            connection.commit();
        }
    }

    private static void queryTimeout() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            Report.refused("57014", () -> text(statement, "SELECT pg_sleep(30)"));
            statement.setQueryTimeout(0);
            Report.equal(text(statement, "SELECT 1"), "1");
        }
    }

    private static void cancel() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    statement.cancel();
                } catch (InterruptedException | SQLException failed) {
                    throw new IllegalStateException(failed);
                }
            });
            canceller.start();
            Report.refused("57014", () -> text(statement, "SELECT pg_sleep(30)"));
            canceller.join();
            Report.equal(text(statement, "SELECT 1"), "1");
        }
    }

    private static void functions() throws Exception {
        try (Connection connection = Report.connect();
             CallableStatement call = connection.prepareCall("{? = call upper(?)}")) {
            for (int turn = 0; turn < 8; turn++) {
                call.registerOutParameter(1, Types.VARCHAR);
                call.setString(2, "called " + turn);
                call.execute();
                Report.equal(call.getString(1), "CALLED " + turn);
            }
        }
    }

    private static void largeObjects() throws Exception {
        byte[] octets = new byte[300_000];
        Arrays.fill(octets, (byte) 7);
        try (Connection connection = Report.connect()) {
            connection.setAutoCommit(false);
            LargeObjectManager objects = connection.unwrap(PGConnection.class).getLargeObjectAPI();
            long oid = objects.createLO(LargeObjectManager.READWRITE);
            try (LargeObject object = objects.open(oid, LargeObjectManager.WRITE)) {
                object.write(octets);
            }
            try (LargeObject object = objects.open(oid, LargeObjectManager.READ)) {
                Report.equal(object.read(octets.length), octets);
            }
            objects.delete(oid);
            connection.commit();
        }
    }

    private static void generatedKeys() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_keys");
            statement.execute("CREATE TABLE jdbc_keys (id serial PRIMARY KEY, v text)");
            try (PreparedStatement insert = connection.prepareStatement(
                     "INSERT INTO jdbc_keys (v) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
                for (int row = 1; row <= 8; row++) {
                    insert.setString(1, "v" + row);
                    insert.executeUpdate();
                    try (ResultSet keys = insert.getGeneratedKeys()) {
                        Report.holds(keys.next(), "a key");
                        Report.equal(keys.getInt("id"), row);
                    }
                }
            }
            statement.execute("DROP TABLE jdbc_keys");
        }
    }

    private static void updatableRows() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_updates");
            statement.execute("CREATE TABLE jdbc_updates (id int PRIMARY KEY, v text)");
            statement.execute("INSERT INTO jdbc_updates VALUES (1, 'old'), (2, 'old')");
            try (Statement updates = connection.createStatement(
                     ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
                 ResultSet rows = updates.executeQuery("SELECT id, v FROM jdbc_updates")) {
                while (rows.next()) {
                    rows.updateString("v", "new");
                    rows.updateRow();
                }
            }
            Report.equal(text(statement, "SELECT count(*) FROM jdbc_updates WHERE v = 'new'"), "2");
            statement.execute("DROP TABLE jdbc_updates");
        }
    }

    private static void temporaryTables() throws Exception {
        Report.together(2, number -> {
            try (Connection connection = Report.connect();
                 Statement statement = connection.createStatement()) {
                statement.execute("CREATE TEMP TABLE jdbc_temporary AS SELECT " + number + " AS n");
                for (int turn = 0; turn < 10; turn++) {
                    Report.equal(text(statement, "SELECT n FROM jdbc_temporary"), "" + number);
                }
                statement.execute("DROP TABLE jdbc_temporary");
            }
        });
    }

    private static void largeResult() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement();
             ResultSet rows = statement.executeQuery(
                 "SELECT i, repeat('r', 1000) FROM generate_series(1, 20000) i")) {
            int row = 0;
            while (rows.next()) {
                row++;
                Report.equal(rows.getInt(1), row);
                Report.equal(rows.getString(2).length(), 1000);
            }
            Report.equal(row, 20000);
        }
    }

    private static void largeParameter() throws Exception {
        try (Connection connection = Report.connect();
             PreparedStatement statement = connection.prepareStatement("SELECT length(?)")) {
            statement.setString(1, "p".repeat(5_000_000));
            Report.equal(only(statement.executeQuery()), "5000000");
        }
    }

    private static void isValid() throws Exception {
        Executor here = Runnable::run;
        try (Connection connection = Report.connect()) {
            for (int turn = 0; turn < 4; turn++) {
                Report.holds(connection.isValid(5), "it is valid");
            }
            connection.setNetworkTimeout(here, 5000);
            Report.holds(connection.isValid(5), "it is valid still");
        }
    }

    /** What tools such as DBeaver ask of a database that they show. */
    private static void metadata() throws Exception {
        try (Connection connection = Report.connect();
             Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_child, jdbc_parent");
            statement.execute("CREATE TABLE jdbc_parent (id int PRIMARY KEY, v text)");
            statement.execute("CREATE TABLE jdbc_child (p int REFERENCES jdbc_parent)");
            DatabaseMetaData known = connection.getMetaData();
            Report.equal(known.getDatabaseProductName(), "PostgreSQL");
            Report.holds(known.getDatabaseMajorVersion() >= 16, "the server's version");
            Report.equal(named(known.getTables(null, "public", "jdbc_%", null), "TABLE_NAME"),
                List.of("jdbc_parent_pkey", "jdbc_child", "jdbc_parent"));
            Report.equal(named(known.getColumns(null, "public", "jdbc_parent", null), "COLUMN_NAME"),
                List.of("id", "v"));
            Report.equal(named(known.getPrimaryKeys(null, "public", "jdbc_parent"), "COLUMN_NAME"),
                List.of("id"));
            Report.equal(named(known.getImportedKeys(null, "public", "jdbc_child"), "PKTABLE_NAME"),
                List.of("jdbc_parent"));
            Report.equal(named(known.getExportedKeys(null, "public", "jdbc_parent"), "FKTABLE_NAME"),
                List.of("jdbc_child"));
            Report.equal(named(known.getIndexInfo(null, "public", "jdbc_parent", true, true),
                "INDEX_NAME"), List.of("jdbc_parent_pkey"));
            Report.holds(named(known.getSchemas(), "TABLE_SCHEM").contains("public"), "schemas");
            Report.holds(!named(known.getCatalogs(), "TABLE_CAT").isEmpty(), "catalogs");
            Report.holds(named(known.getTypeInfo(), "TYPE_NAME").contains("int4"), "types");
            Report.holds(named(known.getTableTypes(), "TABLE_TYPE").contains("TABLE"), "kinds");
            named(known.getFunctions(null, "pg_catalog", "upper"), "FUNCTION_NAME");
            named(known.getProcedures(null, null, "nowhere"), "PROCEDURE_NAME");
            named(known.getTablePrivileges(null, "public", "jdbc_parent"), "PRIVILEGE");
            named(known.getColumnPrivileges(null, "public", "jdbc_parent", "id"), "PRIVILEGE");
            named(known.getBestRowIdentifier(null, "public", "jdbc_parent", 0, true), "COLUMN_NAME");
            statement.execute("DROP TABLE jdbc_child, jdbc_parent");
        }
    }

    static String text(Statement statement, String query) throws SQLException {
        return only(statement.executeQuery(query));
    }

    private static String only(ResultSet rows) throws SQLException {
        try (rows) {
            Report.holds(rows.next(), "a row");
            return rows.getString(1);
        }
    }

    private static List<String> named(ResultSet rows, String column) throws SQLException {
        List<String> found = new ArrayList<>();
        try (rows) {
            while (rows.next()) {
                found.add(rows.getString(column));
            }
        }
        return found;
    }
}
