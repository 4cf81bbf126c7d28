#!/bin/sh
# What every container of the desk begins with: the database's password, when a file holds one, goes where libpq looks for
# it and nobody else can. Never into the environment, which a notebook may print.
set -eu

secret() {  # the one line of a mounted file, never an empty one: to Jupyter that would mean "no token needed"
  line=$(tr -d '\r\n' <"$1") 2>/dev/null || line=
  [ -n "$line" ] || { echo "start: $1 is empty or missing" >&2; exit 2; }
}

keep() {  # what comes in, in a file of that name that only we can read; the health check keeps it in the same
  own="${TMPDIR:-/tmp}/desk-$(id -u)"
  mkdir -p -m 700 "$own"
  [ -O "$own" ] && [ ! -L "$own" ] || { echo "start: $own belongs to somebody else" >&2; exit 2; }
  (umask 077; cat >"$own/$1.$$"; mv "$own/$1.$$" "$own/$1")
}

if [ -n "${DATABASE_PASSWORD_FILE:-}" ]; then
  secret "$DATABASE_PASSWORD_FILE"
  printf '%s' "$line" | sed -e 's/[\\:]/\\&/g' -e 's/^/*:*:*:*:/' | { keep pgpass; }
  export PGPASSFILE="${TMPDIR:-/tmp}/desk-$(id -u)/pgpass"
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
      printf '%s' "$line" | { keep token; }
      export JUPYTER_TOKEN_FILE="${TMPDIR:-/tmp}/desk-$(id -u)/token"
    fi
    exec jupyter lab --ip=0.0.0.0 --port=8888 --no-browser --ServerApp.root_dir=/desk --LabApp.news_url=None
    ;;
  *)
    exec "$@"
    ;;
esac
