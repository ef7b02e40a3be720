-- invite_sync: the install script, joined from the parts in sql/ in the order that the Makefile lists

-- complain if the script is sourced in psql, rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION invite_sync" to load this file. \quit

-- every name below is qualified all the same
SET LOCAL search_path TO pg_catalog, pg_temp;

-- The role that owns everything of ours and may do nothing else, and a schema that is ours alone: whoever owned or
-- had filled the schema before could put code into the way of everything that follows.
DO $prelude$
DECLARE
    own pg_catalog.pg_roles;
    holders text;
    owner name;
BEGIN
    SELECT r.* INTO own FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) 'invite_sync_owner';
    IF own.oid IS NULL THEN
        CREATE ROLE invite_sync_owner NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT;
        COMMENT ON ROLE invite_sync_owner IS
            'Owns the tables and functions of the extension invite_sync and has no other right; nobody logs in as it';
    ELSIF own.rolcanlogin OR own.rolsuper OR own.rolbypassrls OR own.rolcreaterole OR own.rolcreatedb OR own.rolreplication
          OR EXISTS (SELECT 1 FROM pg_catalog.pg_auth_members AS a WHERE a.member OPERATOR(pg_catalog.=) own.oid) THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'role "invite_sync_owner" exists and has more rights than the extension gives it',
            HINT = 'ALTER ROLE invite_sync_owner NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS; and revoke every role from it.';
    END IF;
    SELECT pg_catalog.string_agg(pg_catalog.quote_ident(m.rolname), ', ') INTO holders
      FROM pg_catalog.pg_auth_members AS a
      JOIN pg_catalog.pg_roles AS o ON o.oid OPERATOR(pg_catalog.=) a.roleid
      JOIN pg_catalog.pg_roles AS m ON m.oid OPERATOR(pg_catalog.=) a.member
     WHERE o.rolname OPERATOR(pg_catalog.=) 'invite_sync_owner' AND NOT m.rolsuper;
    IF holders IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'role "invite_sync_owner" has members, who could change everything of the extension',
            HINT = pg_catalog.format('REVOKE invite_sync_owner FROM %s;', holders);
    END IF;

    SELECT r.rolname INTO owner
      FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
     WHERE n.nspname OPERATOR(pg_catalog.=) 'invite_sync'
       AND n.nspowner OPERATOR(pg_catalog.<>)
           (SELECT x.oid FROM pg_catalog.pg_roles AS x WHERE x.rolname OPERATOR(pg_catalog.=) CURRENT_USER)
       AND r.rolname OPERATOR(pg_catalog.<>) 'invite_sync_owner';
    IF owner IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = pg_catalog.format('schema "invite_sync" belongs to role "%s"', owner),
            HINT = 'Drop or rename that schema; the extension makes its own.';
    END IF;
    SELECT pg_catalog.string_agg(DISTINCT coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC'), ', ') INTO holders
      FROM pg_catalog.pg_namespace AS n
     CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS acl
      LEFT JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) acl.grantee
     WHERE n.nspname OPERATOR(pg_catalog.=) 'invite_sync' AND acl.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
       AND acl.grantee OPERATOR(pg_catalog.<>) n.nspowner
       AND coalesce(r.rolname, '') OPERATOR(pg_catalog.<>) 'invite_sync_owner';
    IF holders IS NOT NULL THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'others may create objects in schema "invite_sync"',
            HINT = pg_catalog.format('REVOKE CREATE ON SCHEMA invite_sync FROM %s;', holders);
    END IF;
    IF EXISTS (SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
                WHERE n.nspname OPERATOR(pg_catalog.=) 'invite_sync')
       OR EXISTS (SELECT 1 FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
                WHERE n.nspname OPERATOR(pg_catalog.=) 'invite_sync')
       OR EXISTS (SELECT 1 FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace
                WHERE n.nspname OPERATOR(pg_catalog.=) 'invite_sync')
       OR EXISTS (SELECT 1 FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
                WHERE n.nspname OPERATOR(pg_catalog.=) 'invite_sync') THEN
        RAISE duplicate_object USING
            MESSAGE = 'schema "invite_sync" is not empty',
            HINT = 'Drop or move what is in it; the extension needs the schema for itself.';
    END IF;
    ALTER SCHEMA invite_sync OWNER TO invite_sync_owner;
    REVOKE ALL ON SCHEMA invite_sync FROM PUBLIC;
    COMMENT ON SCHEMA invite_sync IS 'Extension invite_sync: auth.users synced to application tables';
END
$prelude$;

