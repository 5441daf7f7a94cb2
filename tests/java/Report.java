import java.io.PrintWriter;
import java.io.StringWriter;
import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Runs cases and says as JSON what each gave: {name: error}, with "" for those that passed. */
final class Report {
    interface Case {
        void run() throws Exception;
    }

    interface Turn {
        void take(int number) throws Exception;
    }

    private static URI place;

    private final Map<String, Case> cases = new LinkedHashMap<>();

    Report(String url) {
        place = URI.create(url);
    }

    void add(String name, Case run) {
        cases.put(name, run);
    }

    void print() {
        StringBuilder line = new StringBuilder("{");
        for (Map.Entry<String, Case> each : cases.entrySet()) {
            String error = "";
            try {
                each.getValue().run();
            } catch (Throwable failure) {
                StringWriter trace = new StringWriter();
                failure.printStackTrace(new PrintWriter(trace));
                error = trace.toString();
            }
            line.append(line.length() > 1 ? ", " : "");
            line.append(quoted(each.getKey())).append(": ").append(quoted(error));
        }
        System.out.println(line.append("}"));
    }

    /** A connection with these properties of the driver: name, value, name, value ... */
    static Connection connect(String... properties) throws SQLException {
        Properties all = new Properties();
        String[] login = place.getUserInfo().split(":", 2);
        all.setProperty("user", login[0]);
        all.setProperty("password", login[1]);
        for (int i = 0; i < properties.length; i += 2) {
            all.setProperty(properties[i], properties[i + 1]);
        }
        String host = place.getHost() + ":" + place.getPort();
        return DriverManager.getConnection("jdbc:postgresql://" + host + place.getPath(), all);
    }

    static void equal(Object found, Object wanted) {
        if (!Objects.deepEquals(found, wanted)) {
            throw new AssertionError(found + " is not " + wanted);
        }
    }

    static void holds(boolean fact, String what) {
        if (!fact) {
            throw new AssertionError(what);
        }
    }

    /** It must fail with this SQLSTATE. */
    static SQLException refused(String sqlstate, Case run) throws Exception {
        try {
            run.run();
        } catch (SQLException refused) {
            if (!sqlstate.equals(refused.getSQLState())) {
                throw refused;
            }
            return refused;
        }
        throw new AssertionError("no error " + sqlstate);
    }

    /** Many turns at the same time, so that clients share few server connections. */
    static void together(int count, Turn turn) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(count);
        try {
            List<Callable<Void>> turns = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                int number = i;
                turns.add(() -> {
                    turn.take(number);
                    return null;
                });
            }
            for (Future<Void> each : threads.invokeAll(turns)) {
                each.get();
            }
        } finally {
            threads.shutdown();
        }
    }

    private static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }
}
