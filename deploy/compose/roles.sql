\set ON_ERROR_STOP on
-- Made by `python -m deploy`; a test compares them. For psql, when the server is new.
-- A refused statement would stand in the log with the password in it.
SET log_min_error_statement = 'panic';

\getenv word INSTALLER_OWNER_PASSWORD
CREATE ROLE installer_owner LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word INSTALLER_RUNTIME_PASSWORD
CREATE ROLE installer_runtime LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word INSTALLER_WORKER_PASSWORD
CREATE ROLE installer_worker LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word INSTALLER_ERASER_PASSWORD
CREATE ROLE installer_eraser LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word INSTALLER_BACKUP_PASSWORD
CREATE ROLE installer_backup LOGIN BYPASSRLS PASSWORD :'word';
GRANT pg_read_all_data TO installer_backup;
ALTER ROLE installer_backup SET default_transaction_read_only = on;
CREATE DATABASE installer OWNER installer_owner;
REVOKE ALL ON DATABASE installer FROM public;
GRANT CONNECT ON DATABASE installer TO installer_owner, installer_runtime, installer_worker, installer_eraser, installer_backup;

\getenv word CONFIG_OWNER_PASSWORD
CREATE ROLE config_owner LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word CONFIG_RUNTIME_PASSWORD
CREATE ROLE config_runtime LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word CONFIG_WORKER_PASSWORD
CREATE ROLE config_worker LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word CONFIG_ERASER_PASSWORD
CREATE ROLE config_eraser LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word CONFIG_BACKUP_PASSWORD
CREATE ROLE config_backup LOGIN BYPASSRLS PASSWORD :'word';
GRANT pg_read_all_data TO config_backup;
ALTER ROLE config_backup SET default_transaction_read_only = on;
CREATE DATABASE config OWNER config_owner;
REVOKE ALL ON DATABASE config FROM public;
GRANT CONNECT ON DATABASE config TO config_owner, config_runtime, config_worker, config_eraser, config_backup;

\getenv word PURGER_OWNER_PASSWORD
CREATE ROLE purger_owner LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word PURGER_RUNTIME_PASSWORD
CREATE ROLE purger_runtime LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word PURGER_WORKER_PASSWORD
CREATE ROLE purger_worker LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word PURGER_ERASER_PASSWORD
CREATE ROLE purger_eraser LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word PURGER_BACKUP_PASSWORD
CREATE ROLE purger_backup LOGIN BYPASSRLS PASSWORD :'word';
GRANT pg_read_all_data TO purger_backup;
ALTER ROLE purger_backup SET default_transaction_read_only = on;
CREATE DATABASE purger OWNER purger_owner;
REVOKE ALL ON DATABASE purger FROM public;
GRANT CONNECT ON DATABASE purger TO purger_owner, purger_runtime, purger_worker, purger_eraser, purger_backup;

\getenv word NOTIFIER_OWNER_PASSWORD
CREATE ROLE notifier_owner LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word NOTIFIER_RUNTIME_PASSWORD
CREATE ROLE notifier_runtime LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word NOTIFIER_WORKER_PASSWORD
CREATE ROLE notifier_worker LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word NOTIFIER_ERASER_PASSWORD
CREATE ROLE notifier_eraser LOGIN NOBYPASSRLS PASSWORD :'word';
\getenv word NOTIFIER_BACKUP_PASSWORD
CREATE ROLE notifier_backup LOGIN BYPASSRLS PASSWORD :'word';
GRANT pg_read_all_data TO notifier_backup;
ALTER ROLE notifier_backup SET default_transaction_read_only = on;
CREATE DATABASE notifier OWNER notifier_owner;
REVOKE ALL ON DATABASE notifier FROM public;
GRANT CONNECT ON DATABASE notifier TO notifier_owner, notifier_runtime, notifier_worker, notifier_eraser, notifier_backup;
