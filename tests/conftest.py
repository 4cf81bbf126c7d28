"What every test may import: `servers`, which lies beside this file and finds PostgreSQL and TimescaleDB."
