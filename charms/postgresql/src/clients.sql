-- Gives each client of :clients its role and database, and drops the roles that no relation has,
-- but for those of the relations :silent. Prints a JSON list on each line: [what was done], or [role, owner, database] for
-- each database in which a role that should go still has something.

CREATE TEMP TABLE clients AS
SELECT role, verifier, database, application, createdb,
       'owner_' || database AS owner, 'role=owner_' || database AS setting
  FROM json_to_recordset(:'clients') AS
       it(role name, verifier text, database name, application text, createdb boolean);

DO $$
DECLARE taken text;
BEGIN
    SELECT string_agg(DISTINCT database, ', ') INTO taken
      FROM clients
      LEFT JOIN pg_roles ON rolname = owner
      LEFT JOIN pg_database ON datname = database
     WHERE shobj_description(pg_roles.oid, 'pg_authid') <> application
        OR (pg_database.oid IS NOT NULL AND datdba IS DISTINCT FROM pg_roles.oid);
    IF taken IS NOT NULL THEN
        RAISE '% belongs to another application', taken;
    END IF;
END $$;

CREATE TEMP TABLE ended AS
SELECT oid, rolname AS role, rolcanlogin
  FROM pg_roles
 WHERE rolname ~ '^relation_id_\d+(_\d+)?$'
   AND split_part(rolname, '_', 3) NOT IN (SELECT json_array_elements_text(:'silent'))
   AND rolname NOT IN (SELECT role FROM clients);

CREATE TEMP TABLE held AS
SELECT DISTINCT role, rolname AS owner, coalesce(datname, 'postgres') AS database
  FROM ended
  JOIN pg_shdepend ON refclassid = 'pg_authid'::regclass AND refobjid = ended.oid
  JOIN pg_auth_members ON member = ended.oid
  JOIN pg_roles ON pg_roles.oid = roleid
  LEFT JOIN pg_database ON pg_database.oid = dbid;

CREATE TEMP TABLE work (place serial, done text, statement text);

INSERT INTO work (done, statement)
SELECT DISTINCT 'made role ' || owner,
       format('CREATE ROLE %I NOLOGIN; COMMENT ON ROLE %1$I IS %L', owner, application)
  FROM clients
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = owner);

INSERT INTO work (done, statement)
SELECT DISTINCT 'made database ' || database,
       format('CREATE DATABASE %I OWNER %I', database, owner)
  FROM clients
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = database);

INSERT INTO work (done, statement)
SELECT 'closed database ' || datname, format('REVOKE ALL ON DATABASE %I FROM PUBLIC', datname)
  FROM (SELECT datname FROM pg_database
         WHERE datallowconn AND has_database_privilege('public', oid, 'CONNECT, TEMPORARY')
         UNION
        SELECT database FROM clients
         WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = database)) AS open;

INSERT INTO work (done, statement)
SELECT 'made role ' || role, format('CREATE ROLE %I LOGIN PASSWORD %L', role, verifier)
  FROM clients
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role);

INSERT INTO work (done, statement)
SELECT 'changed the password of ' || role, format('ALTER ROLE %I PASSWORD %L', role, verifier)
  FROM clients
  JOIN pg_authid ON rolname = role
 WHERE rolpassword IS DISTINCT FROM verifier;

-- What a client makes belongs to its database's owner, and so to the client's successor too.
INSERT INTO work (done, statement)
SELECT format('gave database %s to %s', database, role),
       format('GRANT %I TO %I; ALTER ROLE %2$I SET role = %1$L', owner, role)
  FROM clients
 WHERE NOT EXISTS (
       SELECT FROM pg_roles AS login
         JOIN pg_auth_members ON member = login.oid
         JOIN pg_roles AS owning ON owning.oid = roleid AND owning.rolname = owner
        WHERE login.rolname = role AND setting = ANY (login.rolconfig));

INSERT INTO work (done, statement)
SELECT format('took %s from %s', owning.rolname, role),
       format('REVOKE %I FROM %I', owning.rolname, role)
  FROM clients
  JOIN pg_roles AS login ON login.rolname = role
  JOIN pg_auth_members ON member = login.oid
  JOIN pg_roles AS owning ON owning.oid = roleid AND owning.rolname <> owner;

INSERT INTO work (done, statement)
SELECT 'gave or took CREATEDB: ' || owner,
       format('ALTER ROLE %I %s', owner, CASE WHEN wanted THEN 'CREATEDB' ELSE 'NOCREATEDB' END)
  FROM (SELECT owner, bool_or(createdb) AS wanted FROM clients GROUP BY owner) AS asked
  LEFT JOIN pg_roles ON rolname = owner
 WHERE wanted <> coalesce(rolcreatedb, false);

INSERT INTO work (done, statement)
SELECT 'ended the sessions of ' || role,
       format('ALTER ROLE %I NOLOGIN; DO $$BEGIN PERFORM pg_terminate_backend(pid, 5000)'
              ' FROM pg_stat_activity WHERE usename = %L; END$$', role, role)
  FROM ended
 WHERE rolcanlogin;

INSERT INTO work (done, statement)
SELECT 'dropped role ' || role, format('DROP ROLE %I', role)
  FROM ended
 WHERE role NOT IN (SELECT role FROM held);

SELECT statement FROM work ORDER BY place \gexec
SELECT json_build_array(done) FROM work ORDER BY place;
SELECT json_build_array(role, owner, database) FROM held;
