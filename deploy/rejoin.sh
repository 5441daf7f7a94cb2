#!/bin/sh
# Make a replica of a former primary: stop it, rewind it to the new primary, start it as a standby.
#
# Runs on the former primary's machine, as the owner of its data. From pgweir's machine, as a hook:
#
#   on_demote: [sh, -c, 'ssh postgres@"$PGWEIR_OLD_PRIMARY_HOST" env
#     PGDATA=/var/lib/postgresql/18/main
#     PGWEIR_PRIMARY_HOST="$PGWEIR_PRIMARY_HOST" PGWEIR_PRIMARY_PORT="$PGWEIR_PRIMARY_PORT"
#     sh /usr/local/bin/rejoin.sh']
#
# PGDATA               the data folder
# PGWEIR_PRIMARY_HOST  the new primary, and its port in PGWEIR_PRIMARY_PORT
# REWIND_CONNINFO      how pg_rewind logs in there, a superuser; user=postgres when unset
# PRIMARY_CONNINFO     how the replica logs in there; user=replicator when unset
# CONFIG_FILE          postgresql.conf, where it is not in PGDATA
#
# Passwords come from the passfile of whoever runs this (~/.pgpass). pg_rewind needs data checksums
# or wal_log_hints = on. When it cannot, make the node anew with pg_basebackup.
set -eu

address="host=$PGWEIR_PRIMARY_HOST port=$PGWEIR_PRIMARY_PORT"
rewind="$address dbname=postgres ${REWIND_CONNINFO:-user=postgres}"
follow="$address ${PRIMARY_CONNINFO:-user=replicator}"
config=${CONFIG_FILE:-$PGDATA/postgresql.conf}

if pg_ctl -D "$PGDATA" status >/dev/null 2>&1; then
	pg_ctl -D "$PGDATA" stop -m fast
fi
# Until its first checkpoint a promoted node's control file has the old timeline.
psql "$rewind" -qXc CHECKPOINT
# The configuration of this node is its own; pg_rewind takes the other's.
kept=$(mktemp -d)
trap 'rm -rf "$kept"' EXIT
for file in postgresql.conf pg_hba.conf pg_ident.conf; do
	if [ -f "$PGDATA/$file" ]; then
		cp -p "$PGDATA/$file" "$kept/"
	fi
done
# A server that crashed is started alone for a moment, so that its data are consistent.
pg_rewind --target-pgdata="$PGDATA" --source-server="$rewind" --config-file="$config"
cp -p "$kept"/* "$PGDATA/"
quoted=$(printf '%s' "$follow" | sed "s/'/''/g")
printf "primary_conninfo = '%s'\n" "$quoted" >"$PGDATA/postgresql.auto.conf"
touch "$PGDATA/standby.signal"
pg_ctl -D "$PGDATA" start -w -l "$PGDATA/rejoin.log" -o "-c config_file=$config"
