// Asks an admin console what pgbouncer_exporter asks it, by the driver which that program has, and
// reads the answers as strictly: labels must come as text or whole numbers, figures as numbers.
//
// argv: connection strings. Prints JSON: for each of them, what was wrong, by command.
package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	_ "github.com/lib/pq"
)

type table struct {
	labels  []string
	figures []string
}

// As the exporter's collector.go maps them; what PgBouncer no longer has is left out.
var tables = map[string]table{
	"databases": {
		[]string{"name", "host", "port", "database", "force_user", "pool_mode"},
		[]string{"pool_size", "max_connections", "current_connections", "paused", "disabled"},
	},
	"stats_totals": {
		[]string{"database"},
		[]string{"query_count", "query_time", "bytes_received", "bytes_sent", "wait_time",
			"xact_count", "xact_time", "client_parse_count", "server_parse_count", "bind_count"},
	},
	"pools": {
		[]string{"database", "user"},
		[]string{"cl_active", "cl_active_cancel_req", "cl_waiting", "cl_waiting_cancel_req",
			"sv_active", "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used",
			"sv_tested", "sv_login", "maxwait"},
	},
}

func main() {
	found := map[string]map[string]string{}
	for _, dsn := range os.Args[1:] {
		found[dsn] = ask(dsn)
	}
	out, err := json.Marshal(found)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(out))
}

func ask(dsn string) map[string]string {
	wrong := map[string]string{}
	note := func(command string, err error) {
		wrong[command] = ""
		if err != nil {
			wrong[command] = err.Error()
		}
	}
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return map[string]string{"open": err.Error()}
	}
	defer db.Close()
	// It pings like this, and keeps to one connection.
	rows, err := db.Query("SHOW STATS")
	if err == nil {
		err = rows.Close()
	}
	note("SHOW STATS", err)
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	note("SHOW VERSION;", version(db))
	note("SHOW LISTS;", pairs(db, "SHOW LISTS;", nil))
	note("SHOW CONFIG;", pairs(db, "SHOW CONFIG;", []string{"max_client_conn", "max_user_connections"}))
	for name, expected := range tables {
		command := fmt.Sprintf("SHOW %s;", name)
		note(command, figures(db, command, expected))
	}
	return wrong
}

func version(db *sql.DB) error {
	rows, err := db.Query("SHOW VERSION;")
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil || len(names) != 1 || names[0] != "version" {
		return fmt.Errorf("columns %v: %v", names, err)
	}
	count := 0
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		count++
	}
	if count != 1 {
		return fmt.Errorf("%d rows", count)
	}
	return rows.Err()
}

// pairs reads name and value, then whatever follows. wanted: names whose value is a number; all when nil.
func pairs(db *sql.DB, command string, wanted []string) error {
	rows, err := db.Query(command)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	if wanted == nil && len(names) != 2 || wanted != nil && len(names) != 3 && len(names) != 4 {
		return fmt.Errorf("columns %v", names)
	}
	missing := map[string]bool{}
	for _, name := range wanted {
		missing[name] = true
	}
	for rows.Next() {
		var name string
		values := make([]sql.RawBytes, len(names)-1)
		into := []any{&name}
		for i := range values {
			into = append(into, &values[i])
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if wanted != nil && !missing[name] {
			continue
		}
		if _, err := strconv.ParseFloat(string(values[0]), 64); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		delete(missing, name)
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing: %v", missing)
	}
	return rows.Err()
}

func figures(db *sql.DB, command string, expected table) error {
	rows, err := db.Query(command)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	count := 0
	for rows.Next() {
		values := make([]any, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		row := map[string]any{}
		for i, name := range names {
			row[name] = values[i]
		}
		for _, name := range expected.labels {
			value, isThere := row[name]
			switch value.(type) {
			case string, int64, float64:
			case nil:
				if !isThere {
					return fmt.Errorf("no label %s", name)
				}
			default:
				return fmt.Errorf("label %s is a %T", name, value)
			}
		}
		for _, name := range expected.figures {
			if err := number(row, name); err != nil {
				return err
			}
		}
		count++
	}
	if count == 0 {
		return fmt.Errorf("no rows")
	}
	return rows.Err()
}

func number(row map[string]any, name string) error {
	value, isThere := row[name]
	if !isThere {
		return fmt.Errorf("no column %s", name)
	}
	switch given := value.(type) {
	case int64, float64, nil:
		return nil
	case []byte:
		_, err := strconv.ParseFloat(string(given), 64)
		return err
	case string:
		_, err := strconv.ParseFloat(given, 64)
		return err
	default:
		return fmt.Errorf("%s is a %T", name, value)
	}
}
