#!/usr/bin/env bash
# The entry point of a replica: copies the primary when it has no data yet, then is the postgres
# image's own. Started again, it goes on from where it was.
set -euo pipefail

primary=${PRIMARY_HOST:-primary}
port=${PRIMARY_PORT:-5432}

if [ "$(id -u)" -eq 0 ]; then
	exec gosu postgres bash "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
	# Copied beside its place, so that a copy cut short is never taken for a whole one.
	rm -rf "$PGDATA.copy"
	mkdir -p "$(dirname "$PGDATA")"
	PGPASSWORD=$REPLICATION_PASSWORD pg_basebackup --pgdata "$PGDATA.copy" --wal-method stream \
		--checkpoint fast --write-recovery-conf --no-password \
		--dbname "host=$primary port=$port user=replicator application_name=$(hostname)"
	rm -rf "$PGDATA"
	mv "$PGDATA.copy" "$PGDATA"
fi

exec docker-entrypoint.sh postgres "$@"
