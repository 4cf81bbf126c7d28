#!/bin/sh
# What every container of the desk begins with: the database's password, when a file holds one, goes where libpq looks for
# it and nobody else can. Never into the environment, which a notebook might print.
set -eu
secret() {  # the one line of a mounted file, never an empty one: to Jupyter that would mean "no token needed"
  line=$(tr -d '\r\n' <"$1") 2>/dev/null || line=
  [ -n "$line" ] || { echo "start: $1 is empty or missing" >&2; exit 2; }
}

if [ -n "${DATABASE_PASSWORD_FILE:-}" ]; then
  secret "$DATABASE_PASSWORD_FILE"
  umask 077
  PGPASSFILE=$(mktemp)
  printf '%s' "$line" | sed -e 's/[\\:]/\\&/g' -e 's/^/*:*:*:*:/' >"$PGPASSFILE"
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
    if [ -n "${JUPYTER_TOKEN_FILE:-}" ]; then  # Jupyter would take the end of the line for a part of the token
      secret "$JUPYTER_TOKEN_FILE"
      umask 077
      JUPYTER_TOKEN_FILE=$(mktemp)
      printf '%s' "$line" >"$JUPYTER_TOKEN_FILE"
      umask 022
      export JUPYTER_TOKEN_FILE
    fi
    exec jupyter lab --ip=0.0.0.0 --port=8888 --no-browser --ServerApp.root_dir=/desk --LabApp.news_url=None
    ;;
  *)
    exec "$@"
    ;;
esac
