-- Three roles with least privilege, for PostgreSQL 15 or later with or without TimescaleDB. Run by psql, as superuser, in the
-- desk's own database, as often as you like and before or after the migrations:
--
--     createdb -h HOST -U postgres quant
--     MLT_READER_PASSWORD=... MLT_WRITER_PASSWORD=... MLT_MIGRATOR_PASSWORD=... \
--         psql -X -v ON_ERROR_STOP=1 -h HOST -U postgres -d quant -f deploy/timescale/setup_database.sql
--
-- mlt_migrator  owns the tables: makes and alters them, drops old partitions and chunks (migrations, retention)
-- mlt_writer    the desk that trades: adds rows everywhere; changes rows only where they are state, never where they are
--               history; never the audit trail; makes, alters, truncates and drops nothing
-- mlt_reader    looks (notebooks, reports, dashboards)
--
-- No password stands here. One that isn't in the environment stays as it is; a new role without one can't log in by
-- password: give it one later by psql's \password, which sends a hash. A login without a prompt: ~/.pgpass.

\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SET password_encryption = 'scram-sha-256';

-- TimescaleDB, where the server has loaded it
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
   AND current_setting('shared_preload_libraries') ~ 'timescaledb' AS timescale,
       rolsuper AS superuser
  FROM pg_roles WHERE rolname = current_user \gset
\if :superuser
SET log_statement = 'none';                  -- the server's log shall not show the passwords below
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
\endif
\if :timescale
CREATE EXTENSION IF NOT EXISTS timescaledb;
\endif

-- The roles: they may log in, and nothing else follows from being one
SELECT format('CREATE ROLE %I', name)
  FROM unnest(ARRAY['mlt_migrator', 'mlt_writer', 'mlt_reader']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
\if :superuser
ALTER ROLE mlt_migrator LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT CONNECTION LIMIT 10;
ALTER ROLE mlt_writer   LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT CONNECTION LIMIT 50;
ALTER ROLE mlt_reader   LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT CONNECTION LIMIT 50;
\else
ALTER ROLE mlt_migrator LOGIN NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT 10;
ALTER ROLE mlt_writer   LOGIN NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT 50;
ALTER ROLE mlt_reader   LOGIN NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT 50;
GRANT mlt_migrator TO CURRENT_USER;          -- a service's administrator isn't a superuser: needed to act for it below
\endif

\getenv migrator_password MLT_MIGRATOR_PASSWORD
\getenv writer_password MLT_WRITER_PASSWORD
\getenv reader_password MLT_READER_PASSWORD
\if :{?migrator_password}
ALTER ROLE mlt_migrator PASSWORD :'migrator_password';
\endif
\if :{?writer_password}
ALTER ROLE mlt_writer PASSWORD :'writer_password';
\endif
\if :{?reader_password}
ALTER ROLE mlt_reader PASSWORD :'reader_password';
\endif

-- A migration waits for a lock rather than making the desk wait behind it; nobody holds a transaction open for long
ALTER ROLE mlt_migrator IN DATABASE :"DBNAME" SET search_path = public;
ALTER ROLE mlt_migrator IN DATABASE :"DBNAME" SET lock_timeout = '30s';
ALTER ROLE mlt_writer   IN DATABASE :"DBNAME" SET search_path = public;
ALTER ROLE mlt_writer   IN DATABASE :"DBNAME" SET lock_timeout = '60s';
ALTER ROLE mlt_writer   IN DATABASE :"DBNAME" SET idle_in_transaction_session_timeout = '15min';
ALTER ROLE mlt_reader   IN DATABASE :"DBNAME" SET search_path = public;
ALTER ROLE mlt_reader   IN DATABASE :"DBNAME" SET default_transaction_read_only = on;
ALTER ROLE mlt_reader   IN DATABASE :"DBNAME" SET statement_timeout = '5min';
ALTER ROLE mlt_reader   IN DATABASE :"DBNAME" SET idle_in_transaction_session_timeout = '15min';

-- All or nothing from here on
BEGIN;

REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO mlt_migrator, mlt_writer, mlt_reader;
GRANT TEMPORARY ON DATABASE :"DBNAME" TO mlt_migrator, mlt_writer;     -- bulk loads are compared in temporary tables
GRANT USAGE, CREATE ON SCHEMA public TO mlt_migrator;
GRANT USAGE ON SCHEMA public TO mlt_writer, mlt_reader;

-- What the migrator makes later follows by itself
ALTER DEFAULT PRIVILEGES FOR ROLE mlt_migrator IN SCHEMA public GRANT SELECT ON TABLES TO mlt_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE mlt_migrator IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO mlt_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE mlt_migrator IN SCHEMA public GRANT SELECT ON SEQUENCES TO mlt_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE mlt_migrator IN SCHEMA public GRANT SELECT, USAGE ON SEQUENCES TO mlt_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE mlt_migrator REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- What is there already changes hands: tables, views, sequences of their own and functions, but none of an extension's
DO $$
DECLARE command text;
BEGIN
    FOR command IN
        SELECT format('ALTER %s %s OWNER TO mlt_migrator',
                      CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                                   ELSE 'TABLE' END, oid::regclass)
          FROM pg_class c
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
           AND relowner <> 'mlt_migrator'::regrole
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass
                              AND (d.deptype = 'e' OR relkind = 'S' AND d.deptype IN ('a', 'i')))   -- a column's sequence
        UNION ALL
        SELECT format('ALTER FUNCTION %s OWNER TO mlt_migrator', p.oid::regprocedure)
          FROM pg_proc p
         WHERE pronamespace = 'public'::regnamespace AND proowner <> 'mlt_migrator'::regrole
           AND proname NOT IN ('keep_history', 'keep_history_of_new_tables')
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass
                              AND d.deptype = 'e')
    LOOP
        EXECUTE command;
    END LOOP;
END $$;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, mlt_writer, mlt_reader;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, mlt_writer, mlt_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mlt_reader;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO mlt_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO mlt_writer;
GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA public TO mlt_writer;

-- History is added to, not changed: what was known, what was booked, what was done. A correction is a new row.
CREATE OR REPLACE FUNCTION keep_history(made regclass) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    name text := (SELECT relname FROM pg_class WHERE oid = coalesce(pg_partition_root(made), made));
    part regclass;
BEGIN
    FOR part IN SELECT made UNION SELECT relid FROM pg_partition_tree(made) LOOP
        IF name IN ('audit_events', 'bars', 'actions', 'minute_bars', 'quotes', 'news', 'posts', 'features',
                    'fundamentals', 'fills', 'quarantine') THEN
            EXECUTE format('REVOKE UPDATE, DELETE ON %s FROM mlt_writer', part);
        ELSIF name IN ('alembic_version', 'audit_tail') THEN    -- which revision the tables have is the migrator's to say;
            -- how far the trail has come follows by a trigger
            EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON %s FROM mlt_writer', part);
        END IF;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION keep_history(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keep_history(regclass) TO mlt_migrator;
SELECT count(keep_history(oid)) AS tables FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') \gset

-- Partitions the writer makes by this function alone, which does so with the migrator's rights
SELECT to_regprocedure('public.ensure_partitions(text, timestamptz, timestamptz)') IS NOT NULL AS partitions \gset
\if :partitions
REVOKE ALL ON FUNCTION ensure_partitions(text, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions(text, timestamptz, timestamptz) TO mlt_writer;
\endif

-- ... history is kept in tables that come later, too. Where no superuser is to be had, run this file again after each migration instead.
\if :superuser
CREATE OR REPLACE FUNCTION keep_history_of_new_tables() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE made regclass;
BEGIN
    FOR made IN SELECT objid FROM pg_event_trigger_ddl_commands()
                 WHERE object_type = 'table' AND schema_name = 'public' LOOP   -- the writer's temporary tables pass by
        PERFORM public.keep_history(made);
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION keep_history_of_new_tables() FROM PUBLIC;
DROP EVENT TRIGGER IF EXISTS keep_history_of_new_tables;
CREATE EVENT TRIGGER keep_history_of_new_tables ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'ALTER TABLE') EXECUTE FUNCTION keep_history_of_new_tables();
\endif

COMMIT;
\echo roles mlt_migrator, mlt_writer and mlt_reader are set up in :DBNAME, and :tables tables with them
