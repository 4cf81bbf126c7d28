#!/bin/sh
# What every container of the desk begins with: the database's password, when a file holds one, goes where libpq looks for
# it and nobody else can. Never into the environment, which a notebook might print.
set -eu
if [ -n "${DATABASE_PASSWORD_FILE:-}" ]; then
  [ -s "$DATABASE_PASSWORD_FILE" ] || { echo "start: $DATABASE_PASSWORD_FILE is empty or missing" >&2; exit 2; }
  umask 077
  PGPASSFILE=$(mktemp)
  printf '*:*:*:*:%s\n' "$(sed -e 's/[\\:]/\\&/g' "$DATABASE_PASSWORD_FILE")" >"$PGPASSFILE"
  umask 022
  export PGPASSFILE
  unset DATABASE_PASSWORD_FILE
fi

case "${1:-}" in
  migrate)  # bring the database's tables to this release, as a role that may
    exec python -c 'from mlt_lib.settings import Settings
from mlt_lib.store.database import named, open_database
engine = open_database(Settings.find().database_url)
print("the tables are up to date in", named(engine.url))'
    ;;
  lab)      # inside the container on every address; docker-compose.yml publishes it on the host's loopback only
    exec jupyter lab --ip=0.0.0.0 --port=8888 --no-browser --ServerApp.root_dir=/desk --LabApp.news_url=None
    ;;
  *)
    exec "$@"
    ;;
esac
