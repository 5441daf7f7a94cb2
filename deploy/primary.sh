#!/usr/bin/env bash
# Run once by the postgres image, in the primary that it has just initialised: the roles, the
# database, and leave for the replicas to stream.
set -euo pipefail

# Passwords pass as variables, quoted by psql: they may hold anything.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
	--username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv app APP_PASSWORD
\getenv monitor MONITOR_PASSWORD
\getenv replication REPLICATION_PASSWORD
CREATE ROLE app LOGIN PASSWORD :'app';
CREATE ROLE monitor LOGIN PASSWORD :'monitor' IN ROLE pg_monitor;
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication';
CREATE DATABASE app OWNER app;
SQL

# The image lets everybody in with a password, but "all" does not speak of replication.
echo 'host replication replicator all scram-sha-256' >>"$PGDATA/pg_hba.conf"
