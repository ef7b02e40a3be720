-- Room drift: what the schema is, what it was when somebody approved it, and what changed since.
--
-- A snapshot is one jsonb without OIDs and without anything that depends on the session or on PostgreSQL's major:
--   {"format": 1, "schemas": [...] or null, "objects": {"table": {"public.t": {..., "columns": {...}}}, ...}}
-- jsonb keeps keys in an order of its own, so that the same schema is the same text everywhere.

-- ---- what a snapshot is made of ----

CREATE FUNCTION invite_sync.drift_name(name text) RETURNS text
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'drift_name';
COMMENT ON FUNCTION invite_sync.drift_name(text) IS
    'A name as snapshots have it: quoted unless it is of lower-case letters, digits, _ and $. quote_ident() also quotes key words, which every major has others of. Internal.';

CREATE FUNCTION invite_sync.drift_hash(value text) RETURNS text
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'drift_hash';
COMMENT ON FUNCTION invite_sync.drift_hash(text) IS
    'sha256: and the digest of the text in UTF-8, in hex. Internal.';

CREATE FUNCTION invite_sync.drift_masked(definition text) RETURNS text
    LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'drift_masked';
COMMENT ON FUNCTION invite_sync.drift_masked(text) IS
    'A deparsed definition, or the name of a type, as snapshots have it. String literals that may be secrets are replaced by their hash: 16 bytes or longer, and not only of lower-case letters and _ . : /; those cast to a time or to the number of an object (regclass) stay. Names that are quoted for being key words, which every major has others of, lose the quotes. What reads back as another tree after a dump is written as it then is: casts of arrays, conjunctions in conjunctions. Raises 40001 for NULL, which is what an object that was dropped meanwhile deparses to. Internal.';

CREATE FUNCTION invite_sync.drift_view_definition(view oid) RETURNS text
    LANGUAGE C STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'drift_view_definition';
COMMENT ON FUNCTION invite_sync.drift_view_definition(oid) IS
    'The query of a view with every column qualified, which pg_get_viewdef() does on some majors only. Takes ACCESS SHARE locks on what the view reads. Internal.';

-- A setting's value, or its hash where the setting is none of PostgreSQL's own: applications keep keys in such.
CREATE FUNCTION invite_sync.drift_settings(settings text[]) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT jsonb_object_agg(split_part(s, '=', 1),
                        CASE WHEN split_part(s, '=', 1) LIKE '%.%' THEN invite_sync.drift_hash(s) ELSE substr(s, strpos(s, '=') + 1) END)
  FROM unnest(settings) AS s
$$;
COMMENT ON FUNCTION invite_sync.drift_settings(text[]) IS
    'Settings (name=value) as an object; the hash in place of the value where the name has a dot. Internal.';

-- A subquery that is run once for each row joins nothing: without nested loops it would read whole catalogs each time.
-- All of it in one statement, so that it is read in one snapshot. What one major has and another has not:
-- NOT NULL as a constraint (left out, the column says it), MAINTAIN (left out beside TRIGGER, where GRANT ALL gave both),
-- the options of role membership (15 has them in the role). Settings that deparsing depends on are pinned.
CREATE FUNCTION invite_sync.drift_content(schemas text[]) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET quote_all_identifiers = off
    SET standard_conforming_strings = on
    SET datestyle = 'ISO, YMD'
    SET intervalstyle = 'postgres'
    SET timezone = 'UTC'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
    SET lc_monetary = 'C'
    SET enable_nestloop = off
    SET jit = off
    AS $$
WITH ext AS MATERIALIZED (
    SELECT d.classid, d.objid FROM pg_depend AS d WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
), ns AS MATERIALIZED (
    SELECT n.oid, n.nspowner, n.nspacl, invite_sync.drift_name(n.nspname) AS name
      FROM pg_namespace AS n
     WHERE CASE WHEN schemas IS NULL
                THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                     AND NOT EXISTS (SELECT FROM ext AS e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid)
                ELSE n.nspname::text = ANY (schemas) END
), rel AS MATERIALIZED (
    SELECT c.oid, c.relkind, c.relowner, c.relacl, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.reloptions,
           c.relam, c.reloftype, c.relispartition, c.relpartbound, n.name || '.' || invite_sync.drift_name(c.relname) AS name
      FROM pg_class AS c JOIN ns AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
       AND NOT EXISTS (SELECT FROM ext AS e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid)
       -- the sequence of an identity column is that column's
       AND NOT (c.relkind = 'S' AND EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                                               AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i'))
), proc AS MATERIALIZED (
    SELECT p.*, n.name || '.' || invite_sync.drift_name(p.proname) || '(' || invite_sync.drift_masked(oidvectortypes(p.proargtypes)) || ')' AS name
      FROM pg_proc AS p JOIN ns AS n ON n.oid = p.pronamespace
     WHERE NOT EXISTS (SELECT FROM ext AS e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid)
       -- the constructors of range types come with the type
       AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
), typ AS MATERIALIZED (
    SELECT t.*, n.name || '.' || invite_sync.drift_name(t.typname) AS name
      FROM pg_type AS t JOIN ns AS n ON n.oid = t.typnamespace
     WHERE t.typtype <> 'm'
       AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class AS c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
       AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = t.oid)
       AND NOT EXISTS (SELECT FROM ext AS e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid)
), defacl AS MATERIALIZED (
    SELECT a.*, concat_ws(' ', 'of', invite_sync.drift_name(r.rolname), 'in schema ' || n.name, 'on',
                          CASE a.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types'
                                               WHEN 'n' THEN 'schemas' WHEN 'L' THEN 'large objects' ELSE a.defaclobjtype::text END) AS name
      FROM pg_default_acl AS a JOIN pg_roles AS r ON r.oid = a.defaclrole LEFT JOIN ns AS n ON n.oid = a.defaclnamespace
     WHERE a.defaclnamespace = 0 OR n.oid IS NOT NULL
), evt AS MATERIALIZED (
    SELECT t.* FROM pg_event_trigger AS t
     WHERE NOT EXISTS (SELECT FROM ext AS e WHERE e.classid = 'pg_event_trigger'::regclass AND e.objid = t.oid)
),
-- ---- rights: one row an object, then one a role
granted (class, oid, sub, kind, owner, acl) AS MATERIALIZED (
    SELECT 'relation', c.oid, 0, CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner, c.relacl FROM rel AS c
    UNION ALL
    SELECT 'relation', c.oid, a.attnum, 'c', NULL, a.attacl FROM rel AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
     WHERE a.attacl IS NOT NULL AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'function', p.oid, 0, 'f', p.proowner, p.proacl FROM proc AS p
    UNION ALL
    SELECT 'type', t.oid, 0, 'T', t.typowner, t.typacl FROM typ AS t
    UNION ALL
    SELECT 'schema', n.oid, 0, 'n', n.nspowner, n.nspacl FROM ns AS n
    UNION ALL
    SELECT 'database', d.oid, 0, 'd', d.datdba, d.datacl FROM pg_database AS d WHERE d.datname = current_database()
    UNION ALL
    -- those for one schema only add to the others, so the owner has nothing to lose there
    SELECT 'default', a.oid, 0, CASE a.defaclobjtype WHEN 'S' THEN 's' ELSE a.defaclobjtype END,
           CASE a.defaclnamespace WHEN 0 THEN a.defaclrole END, a.defaclacl FROM defacl AS a
), complete (kind, privileges) AS MATERIALIZED (
    SELECT k.kind, array_agg(x.privilege_type) FILTER (WHERE x.privilege_type <> 'MAINTAIN')
      FROM unnest(ARRAY['r', 's', 'f', 'T', 'n', 'd']::"char"[]) AS k (kind) CROSS JOIN LATERAL aclexplode(acldefault(k.kind, 10)) AS x
     WHERE x.grantee = 10 GROUP BY k.kind
    UNION ALL
    SELECT 'c', ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']
    UNION ALL
    SELECT 'L', ARRAY['SELECT', 'UPDATE']
), holding (class, oid, sub, kind, owner, grantee, privilege, grantable) AS (
    SELECT g.class, g.oid, g.sub, g.kind, g.owner, x.grantee, x.privilege_type, bool_or(x.is_grantable)
      FROM granted AS g CROSS JOIN LATERAL aclexplode(coalesce(g.acl, acldefault(g.kind, g.owner))) AS x
     GROUP BY 1, 2, 3, 4, 5, 6, 7
    UNION ALL
    -- so that an owner who has nothing left shows
    SELECT g.class, g.oid, g.sub, g.kind, g.owner, g.owner, NULL, NULL FROM granted AS g WHERE g.owner IS NOT NULL
), held AS MATERIALIZED (
    SELECT h.class, h.oid, h.sub, h.owner, h.grantee,
           CASE WHEN coalesce(array_agg(h.privilege) @> c.privileges, false)
                     AND bool_and(h.grantable) FILTER (WHERE h.privilege <> 'MAINTAIN') = bool_or(h.grantable) FILTER (WHERE h.privilege <> 'MAINTAIN')
                THEN 'ALL' || CASE WHEN bool_or(h.grantable) FILTER (WHERE h.privilege <> 'MAINTAIN') THEN '*' ELSE '' END
                ELSE coalesce(string_agg(h.privilege || CASE WHEN h.grantable THEN '*' ELSE '' END, ', ' ORDER BY h.privilege COLLATE "C")
                                  FILTER (WHERE NOT (h.privilege = 'MAINTAIN' AND h.with_trigger)), 'none') END AS privileges
      FROM (SELECT x.*, bool_or(x.privilege = 'TRIGGER') OVER (PARTITION BY x.class, x.oid, x.sub, x.grantee) AS with_trigger FROM holding AS x) AS h
      JOIN complete AS c ON c.kind = h.kind
     GROUP BY h.class, h.oid, h.sub, h.owner, h.grantee, c.privileges
), rights AS MATERIALIZED (
    SELECT h.class, h.oid, h.sub,
           jsonb_object_agg(coalesce(invite_sync.drift_name(r.rolname), 'PUBLIC'), h.privileges) AS grants
      FROM held AS h LEFT JOIN pg_roles AS r ON r.oid = h.grantee
     WHERE NOT (h.owner IS NOT NULL AND h.grantee = h.owner AND h.privileges = 'ALL')
     GROUP BY h.class, h.oid, h.sub
),
-- ---- the parts of tables
inherited AS MATERIALIZED (
    SELECT i.inhrelid, jsonb_agg(invite_sync.drift_name(pn.nspname) || '.' || invite_sync.drift_name(pc.relname) ORDER BY i.inhseqno) AS parents
      FROM rel AS c JOIN pg_inherits AS i ON i.inhrelid = c.oid
      JOIN pg_class AS pc ON pc.oid = i.inhparent JOIN pg_namespace AS pn ON pn.oid = pc.relnamespace
     GROUP BY i.inhrelid
), columns AS MATERIALIZED (
    SELECT a.attrelid, jsonb_object_agg(a.attname, jsonb_strip_nulls(jsonb_build_object(
               'type', CASE WHEN c.relkind NOT IN ('v', 'm') THEN invite_sync.drift_masked(format_type(a.atttypid, a.atttypmod)) END,
               'not_null', CASE WHEN a.attnotnull THEN CASE WHEN nn.oid IS NULL THEN 'true' ELSE 'not valid' END END,
               'default', CASE WHEN d.oid IS NOT NULL AND a.attgenerated = '' THEN invite_sync.drift_masked(pg_get_expr(d.adbin, d.adrelid)) END,
               'generated', CASE WHEN a.attgenerated <> '' THEN invite_sync.drift_masked(pg_get_expr(d.adbin, d.adrelid))
                                      || CASE a.attgenerated WHEN 's' THEN ' stored' ELSE ' virtual' END END,
               'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
               'collation', CASE WHEN a.attcollation <> t.typcollation THEN (
                    SELECT (SELECT invite_sync.drift_name(n.nspname) FROM pg_namespace AS n WHERE n.oid = l.collnamespace) || '.' || invite_sync.drift_name(l.collname)
                      FROM pg_collation AS l WHERE l.oid = a.attcollation) END,
               'options', (SELECT jsonb_object_agg(split_part(s, '=', 1), invite_sync.drift_hash(s)) FROM unnest(a.attfdwoptions) AS s),
               'grants', r.grants))) AS columns
      FROM rel AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
      JOIN pg_type AS t ON t.oid = a.atttypid
      LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      LEFT JOIN pg_constraint AS nn ON nn.conrelid = a.attrelid AND nn.contype = 'n' AND nn.conkey = ARRAY[a.attnum] AND NOT nn.convalidated
      LEFT JOIN rights AS r ON r.class = 'relation' AND r.oid = a.attrelid AND r.sub = a.attnum
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind <> 'S'
       AND CASE WHEN c.relkind IN ('v', 'm') THEN r.grants IS NOT NULL OR d.oid IS NOT NULL ELSE a.attislocal OR a.attinhcount = 0 END
     GROUP BY a.attrelid
),
-- an inherited column is its parent's, but for what was decided for the child alone; pg_dump writes DEFAULT NULL for none.
-- In steps, since after a restore the catalogs have no statistics by which to join them in a sensible order.
child_attribute AS MATERIALIZED (
    SELECT a.attrelid, a.attname, a.attnum, a.attnotnull, a.attfdwoptions, i.inhparent
      FROM rel AS c JOIN pg_inherits AS i ON i.inhrelid = c.oid JOIN pg_attribute AS a ON a.attrelid = c.oid
     WHERE a.attnum > 0 AND NOT a.attisdropped AND NOT a.attislocal
), parent_attribute AS MATERIALIZED (
    SELECT p.attrelid, p.attname, p.attnum, p.attnotnull FROM pg_attribute AS p
     WHERE p.attrelid IN (SELECT a.inhparent FROM child_attribute AS a) AND p.attnum > 0 AND NOT p.attisdropped
), defaults AS MATERIALIZED (
    SELECT d.adrelid, d.adnum, regexp_replace(invite_sync.drift_masked(pg_get_expr(d.adbin, d.adrelid)), '^NULL::.*', 'none') AS definition
      FROM pg_attrdef AS d
     WHERE d.adrelid IN (SELECT a.attrelid FROM child_attribute AS a UNION SELECT a.attrelid FROM parent_attribute AS a)
), inheriting AS MATERIALIZED (
    SELECT a.*, p.attnum AS parents_attnum, p.attnotnull AS parents_attnotnull
      FROM child_attribute AS a JOIN parent_attribute AS p ON p.attrelid = a.inhparent AND p.attname = a.attname
), inherited_columns AS MATERIALIZED (
    SELECT a.attrelid, jsonb_object_agg(a.attname, a.own) AS columns
      FROM (SELECT i.attrelid, i.attname, jsonb_strip_nulls(jsonb_build_object(
                       'not_null', CASE WHEN bool_and(i.attnotnull AND NOT i.parents_attnotnull) THEN 'true' END,
                       'default', CASE WHEN bool_and(coalesce(d.definition, 'none') <> coalesce(pd.definition, 'none')) THEN coalesce(min(d.definition), 'none') END,
                       'options', (SELECT jsonb_object_agg(split_part(s, '=', 1), invite_sync.drift_hash(s)) FROM unnest(i.attfdwoptions) AS s),
                       'grants', r.grants)) AS own
              FROM inheriting AS i
              LEFT JOIN defaults AS d ON d.adrelid = i.attrelid AND d.adnum = i.attnum
              LEFT JOIN defaults AS pd ON pd.adrelid = i.inhparent AND pd.adnum = i.parents_attnum
              LEFT JOIN rights AS r ON r.class = 'relation' AND r.oid = i.attrelid AND r.sub = i.attnum
             GROUP BY i.attrelid, i.attname, i.attfdwoptions, r.grants) AS a
     WHERE a.own <> '{}'
     GROUP BY a.attrelid
), constraints AS MATERIALIZED (
    SELECT o.class, o.oid, jsonb_object_agg(o.name, jsonb_build_object('definition', invite_sync.drift_masked(pg_get_constraintdef(o.id)))) AS constraints
      FROM (SELECT 'relation' AS class, c.oid, x.conname AS name, x.oid AS id FROM rel AS c JOIN pg_constraint AS x ON x.conrelid = c.oid
             WHERE x.contype IN ('c', 'f', 'p', 'u', 'x') AND x.conparentid = 0 AND (x.conislocal OR x.coninhcount = 0)
            UNION ALL
            SELECT 'type', t.oid, x.conname, x.oid FROM typ AS t JOIN pg_constraint AS x ON x.contypid = t.oid AND x.contype = 'c') AS o
     GROUP BY o.class, o.oid
), indexes AS MATERIALIZED (
    SELECT i.indrelid, jsonb_object_agg(ic.relname, jsonb_strip_nulls(jsonb_build_object(
               'definition', invite_sync.drift_masked(pg_get_indexdef(i.indexrelid)),
               'valid', CASE WHEN NOT i.indisvalid THEN false END))) AS indexes
      FROM rel AS c JOIN pg_index AS i ON i.indrelid = c.oid JOIN pg_class AS ic ON ic.oid = i.indexrelid
     -- what a constraint made is the constraint's, and a partition's is its parent's
     WHERE NOT EXISTS (SELECT FROM pg_constraint AS x WHERE x.conindid = i.indexrelid AND x.contype IN ('p', 'u', 'x'))
       AND NOT EXISTS (SELECT FROM pg_inherits AS x WHERE x.inhrelid = i.indexrelid)
     GROUP BY i.indrelid
), triggers AS MATERIALIZED (
    SELECT t.tgrelid, jsonb_object_agg(t.tgname, jsonb_strip_nulls(jsonb_build_object(
               'definition', invite_sync.drift_masked(pg_get_triggerdef(t.oid)),
               'enabled', CASE t.tgenabled WHEN 'D' THEN 'never' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END))) AS triggers
      FROM rel AS c JOIN pg_trigger AS t ON t.tgrelid = c.oid
     WHERE NOT t.tgisinternal AND t.tgparentid = 0
       AND NOT EXISTS (SELECT FROM ext AS e WHERE e.classid = 'pg_trigger'::regclass AND e.objid = t.oid)
     GROUP BY t.tgrelid
), inherited_triggers AS MATERIALIZED (
    SELECT t.tgrelid, jsonb_object_agg(t.tgname, CASE t.tgenabled WHEN 'D' THEN 'never' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' ELSE 'origin' END) AS enabled
      FROM rel AS c JOIN pg_trigger AS t ON t.tgrelid = c.oid JOIN pg_trigger AS p ON p.oid = t.tgparentid
     WHERE NOT t.tgisinternal AND t.tgenabled <> p.tgenabled
     GROUP BY t.tgrelid
), unchecked AS MATERIALIZED (
    SELECT d.tgrelid, jsonb_agg(d.conname ORDER BY d.conname) AS constraints
      FROM (SELECT DISTINCT t.tgrelid, x.conname FROM rel AS c JOIN pg_trigger AS t ON t.tgrelid = c.oid JOIN pg_constraint AS x ON x.oid = t.tgconstraint
             WHERE t.tgisinternal AND t.tgenabled <> 'O') AS d
     GROUP BY d.tgrelid
), policies AS MATERIALIZED (
    SELECT p.polrelid, jsonb_object_agg(p.polname, jsonb_strip_nulls(jsonb_build_object(
               'command', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
               'permissive', p.polpermissive,
               'roles', (SELECT jsonb_agg(coalesce(invite_sync.drift_name(o.rolname), 'PUBLIC') ORDER BY o.rolname)
                           FROM (SELECT (SELECT r.rolname FROM pg_roles AS r WHERE r.oid = u.oid) AS rolname FROM unnest(p.polroles) AS u (oid)) AS o),
               'using', CASE WHEN p.polqual IS NOT NULL THEN invite_sync.drift_masked(pg_get_expr(p.polqual, p.polrelid)) END,
               'check', CASE WHEN p.polwithcheck IS NOT NULL THEN invite_sync.drift_masked(pg_get_expr(p.polwithcheck, p.polrelid)) END))) AS policies
      FROM rel AS c JOIN pg_policy AS p ON p.polrelid = c.oid GROUP BY p.polrelid
), rules AS MATERIALIZED (
    SELECT w.ev_class, jsonb_object_agg(w.rulename, jsonb_strip_nulls(jsonb_build_object(
               'definition', invite_sync.drift_masked(pg_get_ruledef(w.oid)),
               'enabled', CASE w.ev_enabled WHEN 'D' THEN 'never' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END))) AS rules
      FROM rel AS c JOIN pg_rewrite AS w ON w.ev_class = c.oid WHERE w.rulename <> '_RETURN' GROUP BY w.ev_class
),
owned AS MATERIALIZED (
    SELECT d.objid, invite_sync.drift_name(n.nspname) || '.' || invite_sync.drift_name(t.relname) || '.' || invite_sync.drift_name(a.attname) AS owner
      FROM rel AS c JOIN pg_depend AS d ON d.objid = c.oid
      JOIN pg_class AS t ON t.oid = d.refobjid JOIN pg_namespace AS n ON n.oid = t.relnamespace
      JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'
),
-- ---- roles: whoever is named above, what those are members of, those of Supabase, and who has settings and is a member of one of these
named (oid) AS MATERIALIZED (
    SELECT h.grantee FROM held AS h
    UNION SELECT g.owner FROM granted AS g
    UNION SELECT unnest(p.polroles) FROM rel AS c JOIN pg_policy AS p ON p.polrelid = c.oid
    UNION SELECT a.defaclrole FROM defacl AS a
    UNION SELECT t.evtowner FROM evt AS t
    UNION SELECT r.oid FROM pg_roles AS r WHERE r.rolname IN ('anon', 'authenticated', 'service_role', 'authenticator', 'supabase_auth_admin')
), above (oid) AS MATERIALIZED (
    WITH RECURSIVE up (oid) AS (
        SELECT n.oid FROM named AS n
        UNION SELECT m.roleid FROM up JOIN pg_auth_members AS m ON m.member = up.oid
    ) SELECT r.oid FROM up JOIN pg_roles AS r ON r.oid = up.oid
), roles AS MATERIALIZED (
    SELECT r.* FROM pg_roles AS r
     WHERE r.rolname !~ '^pg_'
       AND (r.oid IN (SELECT a.oid FROM above AS a)
            OR EXISTS (SELECT FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.datname = current_database()
                        WHERE s.setrole = r.oid AND s.setdatabase IN (0, d.oid)
                          AND EXISTS (SELECT FROM above AS a WHERE pg_has_role(r.oid, a.oid, 'MEMBER'))))
), members AS MATERIALIZED (
    SELECT m.member, jsonb_object_agg(invite_sync.drift_name(m.rolname), m.options) AS member_of
      FROM (SELECT a.member, r.rolname,
                   coalesce(nullif(concat_ws(', ', CASE WHEN bool_or(a.admin_option) THEN 'ADMIN' END,
                                                   CASE WHEN bool_or(coalesce((to_jsonb(a) ->> 'inherit_option')::boolean, o.rolinherit)) THEN 'INHERIT' END,
                                                   CASE WHEN bool_or(coalesce((to_jsonb(a) ->> 'set_option')::boolean, true)) THEN 'SET' END), ''), 'none') AS options
              FROM roles AS o JOIN pg_auth_members AS a ON a.member = o.oid JOIN pg_roles AS r ON r.oid = a.roleid
             GROUP BY a.member, r.rolname) AS m
     GROUP BY m.member
),
-- ---- the objects
objects (type, name, definition) AS (
    SELECT 'schema', n.name, jsonb_build_object('owner', o.rolname, 'grants', r.grants)
      FROM ns AS n JOIN pg_roles AS o ON o.oid = n.nspowner LEFT JOIN rights AS r ON r.class = 'schema' AND r.oid = n.oid
    UNION ALL
    SELECT 'extension', invite_sync.drift_name(e.extname), jsonb_build_object('version', e.extversion, 'schema', n.nspname)
      FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
    UNION ALL
    SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'table' END, c.name,
           jsonb_build_object(
               'owner', o.rolname, 'grants', r.grants,
               'kind', CASE c.relkind WHEN 'f' THEN 'foreign' WHEN 'p' THEN 'partitioned' END,
               'unlogged', CASE WHEN c.relpersistence = 'u' THEN true END,
               'row_security', CASE WHEN c.relforcerowsecurity THEN CASE WHEN c.relrowsecurity THEN 'forced' ELSE 'forced, but off' END
                                    WHEN c.relrowsecurity THEN 'on' END,
               'replica_identity', CASE WHEN c.relkind IN ('r', 'p', 'm') THEN
                    CASE c.relreplident WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full' WHEN 'i' THEN
                         'index ' || (SELECT (SELECT x.relname FROM pg_class AS x WHERE x.oid = i.indexrelid) FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisreplident) END END,
               'options', (SELECT jsonb_object_agg(split_part(s, '=', 1), substr(s, strpos(s, '=') + 1)) FROM unnest(c.reloptions) AS s),
               'access_method', (SELECT m.amname FROM pg_am AS m WHERE m.oid = c.relam AND m.amname <> 'heap'),
               'of_type', CASE WHEN c.reloftype <> 0 THEN invite_sync.drift_masked(format_type(c.reloftype, NULL)) END,
               'partition_by', CASE WHEN c.relkind = 'p' THEN invite_sync.drift_masked(pg_get_partkeydef(c.oid)) END,
               'inherits', i.parents,
               'partition_bound', CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END,
               'server', (SELECT (SELECT s.srvname FROM pg_foreign_server AS s WHERE s.oid = f.ftserver) FROM pg_foreign_table AS f WHERE f.ftrelid = c.oid),
               'server_options', (SELECT jsonb_object_agg(split_part(s, '=', 1), invite_sync.drift_hash(s))
                                    FROM pg_foreign_table AS f CROSS JOIN LATERAL unnest(f.ftoptions) AS s WHERE f.ftrelid = c.oid),
               'definition', CASE WHEN c.relkind IN ('v', 'm') THEN invite_sync.drift_masked(invite_sync.drift_view_definition(c.oid)) END,
               'inherited_columns', ic.columns, 'inherited_triggers', it.enabled, 'disabled_constraint_triggers', u.constraints,
               'columns', a.columns, 'constraints', x.constraints, 'indexes', ix.indexes, 'triggers', tg.triggers, 'policies', p.policies, 'rules', w.rules)
      FROM rel AS c JOIN pg_roles AS o ON o.oid = c.relowner
      LEFT JOIN rights AS r ON r.class = 'relation' AND r.oid = c.oid AND r.sub = 0
      LEFT JOIN inherited AS i ON i.inhrelid = c.oid
      LEFT JOIN columns AS a ON a.attrelid = c.oid
      LEFT JOIN inherited_columns AS ic ON ic.attrelid = c.oid
      LEFT JOIN inherited_triggers AS it ON it.tgrelid = c.oid
      LEFT JOIN unchecked AS u ON u.tgrelid = c.oid
      LEFT JOIN constraints AS x ON x.class = 'relation' AND x.oid = c.oid
      LEFT JOIN indexes AS ix ON ix.indrelid = c.oid
      LEFT JOIN triggers AS tg ON tg.tgrelid = c.oid
      LEFT JOIN policies AS p ON p.polrelid = c.oid
      LEFT JOIN rules AS w ON w.ev_class = c.oid
     WHERE c.relkind <> 'S'
    UNION ALL
    SELECT 'sequence', c.name,
           jsonb_build_object('owner', o.rolname, 'grants', r.grants, 'type', format_type(s.seqtypid, NULL), 'start', s.seqstart, 'increment', s.seqincrement,
               'min', s.seqmin, 'max', s.seqmax, 'cache', s.seqcache, 'cycle', s.seqcycle, 'unlogged', CASE WHEN c.relpersistence = 'u' THEN true END,
               'owned_by', ow.owner)
      FROM rel AS c JOIN pg_sequence AS s ON s.seqrelid = c.oid JOIN pg_roles AS o ON o.oid = c.relowner
      LEFT JOIN owned AS ow ON ow.objid = c.oid
      LEFT JOIN rights AS r ON r.class = 'relation' AND r.oid = c.oid AND r.sub = 0
    UNION ALL
    SELECT 'function', p.name,
           jsonb_build_object(
               'owner', o.rolname, 'grants', r.grants,
               'kind', CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' WHEN 'w' THEN 'window function' END,
               'arguments', invite_sync.drift_masked(pg_get_function_arguments(p.oid)),
               'result', CASE WHEN p.prokind <> 'p' THEN invite_sync.drift_masked(pg_get_function_result(p.oid)) END,
               'language', l.lanname,
               'body', CASE WHEN p.prokind = 'a'
                            THEN (SELECT invite_sync.drift_hash(invite_sync.drift_masked(concat_ws('|', a.aggkind, a.aggnumdirectargs, a.aggtransfn::regprocedure, a.aggfinalfn::regprocedure,
                                         a.aggcombinefn::regprocedure, a.aggserialfn::regprocedure, a.aggdeserialfn::regprocedure, a.aggmtransfn::regprocedure,
                                         a.aggminvtransfn::regprocedure, a.aggmfinalfn::regprocedure, a.aggfinalextra, a.aggmfinalextra, a.aggfinalmodify,
                                         a.aggmfinalmodify, a.aggsortop::regoperator, format_type(a.aggtranstype, NULL), format_type(a.aggmtranstype, NULL),
                                         coalesce(quote_literal(a.agginitval), 'none'), coalesce(quote_literal(a.aggminitval), 'none'))))
                                    FROM pg_aggregate AS a WHERE a.aggfnoid = p.oid)
                            ELSE invite_sync.drift_hash(concat_ws('|', p.probin, CASE WHEN p.prosqlbody IS NULL THEN p.prosrc ELSE invite_sync.drift_masked(pg_get_function_sqlbody(p.oid)) END)) END,
               'volatility', CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
               'security', CASE WHEN p.prosecdef THEN 'definer' END,
               'strict', CASE WHEN p.proisstrict THEN true END,
               'leakproof', CASE WHEN p.proleakproof THEN true END,
               'parallel', CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' END,
               'cost', CASE WHEN p.procost <> CASE WHEN l.lanname IN ('c', 'internal') THEN 1 ELSE 100 END THEN p.procost END,
               'rows', CASE WHEN p.proretset AND p.prorows <> 1000 THEN p.prorows END,
               'support', CASE WHEN p.prosupport <> 0 THEN invite_sync.drift_masked(p.prosupport::regprocedure::text) END,
               'transform', (SELECT jsonb_agg(invite_sync.drift_masked(format_type(t, NULL))) FROM unnest(p.protrftypes) AS t),
               'settings', invite_sync.drift_settings(p.proconfig))
      FROM proc AS p JOIN pg_language AS l ON l.oid = p.prolang JOIN pg_roles AS o ON o.oid = p.proowner
      LEFT JOIN rights AS r ON r.class = 'function' AND r.oid = p.oid
    UNION ALL
    SELECT 'type', t.name,
           jsonb_build_object(
               'owner', o.rolname, 'grants', r.grants,
               'kind', CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite' WHEN 'r' THEN 'range' WHEN 'b' THEN 'base' ELSE 'shell' END,
               'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid),
               'type', CASE WHEN t.typtype = 'd' THEN invite_sync.drift_masked(format_type(t.typbasetype, t.typtypmod)) END,
               'not_null', CASE WHEN t.typnotnull THEN 'true' END,
               'default', CASE WHEN t.typdefaultbin IS NOT NULL THEN invite_sync.drift_masked(pg_get_expr(t.typdefaultbin, 0)) END,
               'collation', CASE WHEN t.typtype = 'd' AND t.typcollation <> b.typcollation THEN (
                    SELECT (SELECT invite_sync.drift_name(n.nspname) FROM pg_namespace AS n WHERE n.oid = l.collnamespace) || '.' || invite_sync.drift_name(l.collname)
                      FROM pg_collation AS l WHERE l.oid = t.typcollation) END,
               'attributes', (SELECT jsonb_agg(invite_sync.drift_name(a.attname) || ' ' || invite_sync.drift_masked(format_type(a.atttypid, a.atttypmod))
                                                  || CASE WHEN a.attcollation <> (SELECT y.typcollation FROM pg_type AS y WHERE y.oid = a.atttypid) THEN ' collate ' || a.attcollation::regcollation ELSE '' END ORDER BY a.attnum)
                                FROM pg_attribute AS a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
               'subtype', CASE WHEN g.rngtypid <> 0 THEN invite_sync.drift_masked(format_type(g.rngsubtype, NULL)) END,
               'multirange', CASE WHEN g.rngtypid <> 0 THEN invite_sync.drift_masked(format_type(g.rngmultitypid, NULL)) END,
               'canonical', CASE WHEN g.rngcanonical <> 0 THEN invite_sync.drift_masked(g.rngcanonical::regproc::text) END,
               'subtype_diff', CASE WHEN g.rngsubdiff <> 0 THEN invite_sync.drift_masked(g.rngsubdiff::regproc::text) END,
               'subtype_collation', CASE WHEN g.rngcollation <> 0 THEN g.rngcollation::regcollation::text END,
               'subtype_opclass', CASE WHEN g.rngtypid <> 0 THEN (
                    SELECT (SELECT invite_sync.drift_name(n.nspname) FROM pg_namespace AS n WHERE n.oid = oc.opcnamespace) || '.' || invite_sync.drift_name(oc.opcname)
                      FROM pg_opclass AS oc WHERE oc.oid = g.rngsubopc AND NOT oc.opcdefault) END,
               'functions', CASE WHEN t.typtype = 'b' THEN invite_sync.drift_masked(concat_ws(', ', t.typinput::regprocedure, t.typoutput::regprocedure)) END,
               'constraints', x.constraints)
      FROM typ AS t JOIN pg_roles AS o ON o.oid = t.typowner LEFT JOIN pg_type AS b ON b.oid = t.typbasetype LEFT JOIN pg_range AS g ON g.rngtypid = t.oid
      LEFT JOIN rights AS r ON r.class = 'type' AND r.oid = t.oid
      LEFT JOIN constraints AS x ON x.class = 'type' AND x.oid = t.oid
    UNION ALL
    SELECT 'default privileges', a.name, jsonb_build_object('grants', coalesce(r.grants, '{}'))
      FROM defacl AS a LEFT JOIN rights AS r ON r.class = 'default' AND r.oid = a.oid
    UNION ALL
    SELECT 'event trigger', invite_sync.drift_name(t.evtname),
           jsonb_build_object('owner', o.rolname, 'event', t.evtevent, 'function', invite_sync.drift_masked(t.evtfoid::regprocedure::text),
               'tags', (SELECT jsonb_agg(x ORDER BY x COLLATE "C") FROM unnest(t.evttags) AS x),
               'enabled', CASE t.evtenabled WHEN 'D' THEN 'never' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END)
      FROM evt AS t JOIN pg_roles AS o ON o.oid = t.evtowner
    UNION ALL
    SELECT 'publication', invite_sync.drift_name(p.pubname),
           jsonb_build_object('owner', o.rolname, 'all_tables', CASE WHEN p.puballtables THEN true END,
               'operations', concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
                                             CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END),
               'via_root', CASE WHEN p.pubviaroot THEN true END,
               'generated_columns', CASE to_jsonb(p) ->> 'pubgencols' WHEN 's' THEN 'stored' END,
               'tables', (SELECT jsonb_object_agg(c.name,
                                     CASE WHEN x.prattrs IS NULL THEN 'all columns'
                                          ELSE 'columns ' || (SELECT string_agg(invite_sync.drift_name(a.attname), ', ' ORDER BY a.attname)
                                                                FROM unnest(x.prattrs::smallint[]) AS k JOIN pg_attribute AS a ON a.attrelid = x.prrelid AND a.attnum = k) END
                                     || CASE WHEN x.prqual IS NULL THEN '' ELSE ' where ' || invite_sync.drift_masked(pg_get_expr(x.prqual, x.prrelid)) END)
                            FROM pg_publication_rel AS x JOIN rel AS c ON c.oid = x.prrelid WHERE x.prpubid = p.oid),
               'schemas', (SELECT jsonb_agg(n.name ORDER BY n.name COLLATE "C") FROM pg_publication_namespace AS x JOIN ns AS n ON n.oid = x.pnnspid WHERE x.pnpubid = p.oid))
      FROM pg_publication AS p JOIN pg_roles AS o ON o.oid = p.pubowner
     WHERE NOT EXISTS (SELECT FROM ext AS e WHERE e.classid = 'pg_publication'::regclass AND e.objid = p.oid)
    UNION ALL
    SELECT 'role', invite_sync.drift_name(r.rolname),
           jsonb_build_object('login', r.rolcanlogin, 'superuser', CASE WHEN r.rolsuper THEN true END, 'bypass_row_security', CASE WHEN r.rolbypassrls THEN true END,
               'create_role', CASE WHEN r.rolcreaterole THEN true END, 'create_database', CASE WHEN r.rolcreatedb THEN true END,
               'replication', CASE WHEN r.rolreplication THEN true END, 'inherit', r.rolinherit,
               'connection_limit', CASE WHEN r.rolconnlimit <> -1 THEN r.rolconnlimit END, 'valid_until', CASE WHEN r.rolvaliduntil <> 'infinity' THEN r.rolvaliduntil END, 'member_of', m.member_of,
               'settings', (SELECT invite_sync.drift_settings(s.setconfig) FROM pg_db_role_setting AS s WHERE s.setrole = r.oid AND s.setdatabase = 0),
               'settings_in_this_database', (SELECT invite_sync.drift_settings(s.setconfig) FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase
                                              WHERE s.setrole = r.oid AND d.datname = current_database()))
      FROM roles AS r LEFT JOIN members AS m ON m.member = r.oid
    UNION ALL
    SELECT 'database', 'this database',
           jsonb_build_object('owner', o.rolname, 'grants', r.grants,
               'settings', (SELECT invite_sync.drift_settings(s.setconfig) FROM pg_db_role_setting AS s WHERE s.setrole = 0 AND s.setdatabase = d.oid))
      FROM pg_database AS d JOIN pg_roles AS o ON o.oid = d.datdba LEFT JOIN rights AS r ON r.class = 'database' AND r.oid = d.oid
     WHERE d.datname = current_database()
)
SELECT jsonb_build_object('format', 1, 'schemas', to_jsonb(schemas), 'objects',
           coalesce((SELECT jsonb_object_agg(t.type, t.objects)
                       FROM (SELECT o.type, jsonb_object_agg(o.name, jsonb_strip_nulls(o.definition)) AS objects FROM objects AS o GROUP BY o.type) AS t), '{}'))
$$;
COMMENT ON FUNCTION invite_sync.drift_content(text[]) IS
    'What the catalogs say of these schemas (NULL: all that are neither the system''s nor an extension''s), as a snapshot. Reads catalogs only, as whoever calls it; takes ACCESS SHARE locks on what it deparses. Internal.';

-- ---- what differs ----

CREATE FUNCTION invite_sync.drift_properties(definition jsonb) RETURNS TABLE (property text, value text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT p.key, p.value #>> '{}' FROM jsonb_each(definition) AS p WHERE jsonb_typeof(p.value) <> 'object'
UNION ALL
SELECT p.key || '.' || v.key, v.value #>> '{}'
  FROM jsonb_each(definition) AS p CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(p.value) WHEN 'object' THEN p.value ELSE '{}' END) AS v
$$;
COMMENT ON FUNCTION invite_sync.drift_properties(jsonb) IS
    'The properties of one object of a snapshot, those of the objects in it by the name of both. Internal.';

CREATE FUNCTION invite_sync.drift_differences(from_content jsonb, to_content jsonb)
    RETURNS TABLE (change text, object_type text, object text, property text, from_value text, to_value text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
WITH part (key, type) AS (
    VALUES ('columns', 'column'), ('constraints', 'constraint'), ('indexes', 'index'), ('triggers', 'trigger'), ('policies', 'policy'), ('rules', 'rule')
), types AS (
    SELECT coalesce(f.key, t.key) AS type, f.value AS old, t.value AS new
      FROM jsonb_each(from_content -> 'objects') AS f FULL JOIN jsonb_each(to_content -> 'objects') AS t ON t.key = f.key
     WHERE f.value IS DISTINCT FROM t.value
), thing AS MATERIALIZED (
    SELECT y.type, v.name, v.old, v.new
      FROM types AS y CROSS JOIN LATERAL (
            SELECT coalesce(a.key, b.key) AS name, a.value AS old, b.value AS new
              FROM jsonb_each(coalesce(y.old, '{}')) AS a FULL JOIN jsonb_each(coalesce(y.new, '{}')) AS b ON b.key = a.key
             WHERE a.value IS DISTINCT FROM b.value) AS v
), piece AS (
    SELECT o.type, o.name, CASE WHEN o.new IS NULL THEN o.old ELSE o.old - ARRAY(SELECT p.key FROM part AS p) END AS old,
           CASE WHEN o.old IS NULL THEN o.new ELSE o.new - ARRAY(SELECT p.key FROM part AS p) END AS new
      FROM thing AS o
    UNION ALL
    -- of what is there on both sides only: the parts of a new table come with it
    SELECT p.type, CASE p.type WHEN 'column' THEN o.name || '.' || invite_sync.drift_name(v.name)
                               ELSE invite_sync.drift_name(v.name) || ' on ' || o.name END, v.old, v.new
      FROM thing AS o CROSS JOIN part AS p CROSS JOIN LATERAL (
            SELECT coalesce(a.key, b.key) AS name, a.value AS old, b.value AS new
              FROM jsonb_each(coalesce(o.old -> p.key, '{}')) AS a FULL JOIN jsonb_each(coalesce(o.new -> p.key, '{}')) AS b ON b.key = a.key
             WHERE a.value IS DISTINCT FROM b.value) AS v
     WHERE o.old IS NOT NULL AND o.new IS NOT NULL
), difference AS (
    SELECT CASE WHEN p.old IS NULL THEN 'added' ELSE 'removed' END AS change, p.type, p.name, NULL AS property, p.old::text AS old, p.new::text AS new
      FROM piece AS p WHERE p.old IS NULL OR p.new IS NULL
    UNION ALL
    SELECT 'changed', p.type, p.name, v.property, v.old, v.new
      FROM piece AS p CROSS JOIN LATERAL (
            SELECT coalesce(a.property, b.property) AS property, a.value AS old, b.value AS new
              FROM invite_sync.drift_properties(p.old) AS a FULL JOIN invite_sync.drift_properties(p.new) AS b ON b.property = a.property
             WHERE a.value IS DISTINCT FROM b.value) AS v
     WHERE p.old IS NOT NULL AND p.new IS NOT NULL AND p.old <> p.new
)
SELECT d.change, d.type, d.name, d.property, d.old, d.new
  FROM difference AS d
 ORDER BY d.type COLLATE "C", d.name COLLATE "C", d.property COLLATE "C"
$$;
COMMENT ON FUNCTION invite_sync.drift_differences(jsonb, jsonb) IS
    'What differs between two snapshots, as schema_diff() returns it. Internal.';

CREATE FUNCTION invite_sync.drift_problem(snapshot jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
SELECT CASE
    WHEN snapshot IS NULL OR jsonb_typeof(snapshot) <> 'object' THEN 'It is no object.'
    WHEN snapshot -> 'format' IS NULL THEN 'It has no "format".'
    WHEN snapshot -> 'format' <> '1' THEN 'Its "format" is not 1.'
    WHEN snapshot - ARRAY['format', 'schemas', 'objects'] <> '{}' THEN 'It has other keys than "format", "schemas" and "objects".'
    WHEN coalesce(jsonb_typeof(snapshot -> 'schemas'), '') NOT IN ('null', 'array') THEN 'Its "schemas" is neither an array nor null.'
    WHEN jsonb_typeof(snapshot -> 'schemas') = 'array'
         AND (snapshot -> 'schemas' = '[]' OR EXISTS (SELECT FROM jsonb_array_elements(snapshot -> 'schemas') AS e WHERE jsonb_typeof(e) <> 'string'))
        THEN 'Its "schemas" is not an array of names.'
    WHEN jsonb_typeof(snapshot -> 'schemas') = 'array'
         AND EXISTS (SELECT FROM jsonb_array_elements_text(snapshot -> 'schemas') AS e WHERE e ~ '^pg_' OR e = 'information_schema')
        THEN 'Its "schemas" names one of the system''s.'
    WHEN coalesce(jsonb_typeof(snapshot -> 'objects'), '') <> 'object' THEN 'Its "objects" is no object.'
    ELSE (SELECT 'Its "objects" has something that is no object definition.'
           WHERE EXISTS (SELECT FROM jsonb_each(snapshot -> 'objects') AS t WHERE jsonb_typeof(t.value) <> 'object')
              OR EXISTS (SELECT FROM jsonb_each(snapshot -> 'objects') AS t
                          CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(t.value) WHEN 'object' THEN t.value ELSE '{}' END) AS o
                          WHERE jsonb_typeof(o.value) <> 'object'
                             OR EXISTS (SELECT FROM jsonb_each(CASE jsonb_typeof(o.value) WHEN 'object' THEN o.value ELSE '{}' END) AS k
                                         WHERE k.key IN ('columns', 'constraints', 'indexes', 'triggers', 'policies', 'rules')
                                           AND (jsonb_typeof(k.value) <> 'object'
                                                OR EXISTS (SELECT FROM jsonb_each(CASE jsonb_typeof(k.value) WHEN 'object' THEN k.value ELSE '{}' END) AS p
                                                            WHERE jsonb_typeof(p.value) <> 'object')))))
END
$$;
COMMENT ON FUNCTION invite_sync.drift_problem(jsonb) IS
    'Why this is not a snapshot, as a sentence; NULL when it is one. Internal.';

-- ---- snapshots and alerts ----

CREATE TABLE invite_sync.schema_snapshot (
    id bigint GENERATED ALWAYS AS IDENTITY,
    taken_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    taken_by name NOT NULL,
    source text NOT NULL,
    schemas text[],
    content jsonb NOT NULL,
    digest text NOT NULL,
    objects integer NOT NULL,
    baseline boolean NOT NULL DEFAULT false,
    approved_at timestamptz,
    approved_by name,
    CONSTRAINT schema_snapshot_pkey PRIMARY KEY (id),
    CONSTRAINT schema_snapshot_source CHECK (source OPERATOR(pg_catalog.=) ANY (ARRAY['taken', 'checked', 'imported'])),
    CONSTRAINT schema_snapshot_approved CHECK ((approved_at IS NULL) OPERATOR(pg_catalog.=) (approved_by IS NULL) AND (approved_at IS NOT NULL OR NOT baseline))
);
COMMENT ON TABLE invite_sync.schema_snapshot IS
    'What schemas were at some time: definitions from the catalogs, no rows of tables. Pruned by prune_snapshots(). Personal columns: taken_by, approved_by and the names of roles in content, where a database role is one person''s.';
COMMENT ON COLUMN invite_sync.schema_snapshot.id IS 'number of the snapshot';
COMMENT ON COLUMN invite_sync.schema_snapshot.taken_at IS 'when it was stored';
COMMENT ON COLUMN invite_sync.schema_snapshot.taken_by IS 'the role that did';
COMMENT ON COLUMN invite_sync.schema_snapshot.source IS 'taken by snapshot_schema(), checked (what check_drift() found), or imported';
COMMENT ON COLUMN invite_sync.schema_snapshot.schemas IS 'its schemas, sorted; NULL: all that are neither the system''s nor an extension''s';
COMMENT ON COLUMN invite_sync.schema_snapshot.content IS 'the definitions, as docs/drift.md describes them';
COMMENT ON COLUMN invite_sync.schema_snapshot.digest IS 'SHA-256 of the text of content: the same for the same schema on every server';
COMMENT ON COLUMN invite_sync.schema_snapshot.objects IS 'how many objects it has, not counting the parts of tables';
COMMENT ON COLUMN invite_sync.schema_snapshot.baseline IS 'check_drift() compares these schemas with it';
COMMENT ON COLUMN invite_sync.schema_snapshot.approved_at IS 'when it was last approved';
COMMENT ON COLUMN invite_sync.schema_snapshot.approved_by IS 'the role that approved it';
COMMENT ON CONSTRAINT schema_snapshot_pkey ON invite_sync.schema_snapshot IS 'one row a snapshot';
COMMENT ON CONSTRAINT schema_snapshot_source ON invite_sync.schema_snapshot IS 'the three ways a snapshot comes here';
COMMENT ON CONSTRAINT schema_snapshot_approved ON invite_sync.schema_snapshot IS 'a baseline was approved by somebody';
COMMENT ON SEQUENCE invite_sync.schema_snapshot_id_seq IS 'ids of snapshots';
CREATE UNIQUE INDEX schema_snapshot_baseline ON invite_sync.schema_snapshot (schemas) NULLS NOT DISTINCT WHERE baseline;
COMMENT ON INDEX invite_sync.schema_snapshot_baseline IS 'One baseline for the same schemas.';

CREATE TABLE invite_sync.drift_alert (
    id bigint GENERATED ALWAYS AS IDENTITY,
    baseline_id bigint NOT NULL,
    snapshot_id bigint NOT NULL,
    schemas text[],
    differences integer NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    state text NOT NULL DEFAULT 'open',
    resolved_at timestamptz,
    resolved_by name,
    CONSTRAINT drift_alert_pkey PRIMARY KEY (id),
    CONSTRAINT drift_alert_state CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['open', 'approved', 'gone', 'superseded'])),
    CONSTRAINT drift_alert_resolved CHECK ((state OPERATOR(pg_catalog.=) 'open') OPERATOR(pg_catalog.=) (resolved_at IS NULL))
);
COMMENT ON TABLE invite_sync.drift_alert IS
    'Drift that check_drift() found. Deleted by prune_snapshots() some time after it was resolved. Personal columns: resolved_by, where a database role is one person''s.';
COMMENT ON COLUMN invite_sync.drift_alert.id IS 'number of the alert';
COMMENT ON COLUMN invite_sync.drift_alert.baseline_id IS 'the snapshot that was the baseline';
COMMENT ON COLUMN invite_sync.drift_alert.snapshot_id IS 'the snapshot of what was found instead';
COMMENT ON COLUMN invite_sync.drift_alert.schemas IS 'their schemas; NULL: all that are neither the system''s nor an extension''s';
COMMENT ON COLUMN invite_sync.drift_alert.differences IS 'how many rows schema_diff() has for the two';
COMMENT ON COLUMN invite_sync.drift_alert.opened_at IS 'when it was found';
COMMENT ON COLUMN invite_sync.drift_alert.state IS 'open; approved; gone (the schema is the baseline''s again); superseded (by other drift, or another baseline)';
COMMENT ON COLUMN invite_sync.drift_alert.resolved_at IS 'when it was no longer open';
COMMENT ON COLUMN invite_sync.drift_alert.resolved_by IS 'the role that approved a snapshot, or ran the check that found it resolved';
COMMENT ON CONSTRAINT drift_alert_pkey ON invite_sync.drift_alert IS 'one row an alert';
COMMENT ON CONSTRAINT drift_alert_state ON invite_sync.drift_alert IS 'what can become of an alert';
COMMENT ON CONSTRAINT drift_alert_resolved ON invite_sync.drift_alert IS 'what is not open was resolved at some time';
COMMENT ON SEQUENCE invite_sync.drift_alert_id_seq IS 'ids of alerts';
CREATE UNIQUE INDEX drift_alert_open ON invite_sync.drift_alert (schemas) NULLS NOT DISTINCT WHERE state OPERATOR(pg_catalog.=) 'open';
COMMENT ON INDEX invite_sync.drift_alert_open IS 'One open alert for the same schemas.';

ALTER TABLE invite_sync.schema_snapshot ENABLE ROW LEVEL SECURITY;
ALTER TABLE invite_sync.drift_alert ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('invite_sync.schema_snapshot', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.schema_snapshot_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.drift_alert', '');
SELECT pg_catalog.pg_extension_config_dump('invite_sync.drift_alert_id_seq', '');

CREATE VIEW invite_sync.schema_snapshots WITH (security_barrier = true) AS
    SELECT s.id, s.taken_at, s.taken_by, s.source, s.schemas, s.objects, s.digest, s.baseline, s.approved_at, s.approved_by
      FROM invite_sync.schema_snapshot AS s
     ORDER BY s.id;
COMMENT ON VIEW invite_sync.schema_snapshots IS
    'The snapshots, without their content. baseline: check_drift() compares with it. For operators. Personal columns: taken_by, approved_by, where a database role is one person''s.';

CREATE VIEW invite_sync.drift_alerts WITH (security_barrier = true) AS
    SELECT a.id, a.state, a.schemas, a.differences, a.baseline_id, a.snapshot_id, a.opened_at, a.resolved_at, a.resolved_by
      FROM invite_sync.drift_alert AS a
     ORDER BY a.id;
COMMENT ON VIEW invite_sync.drift_alerts IS
    'Drift that check_drift() found: state open, approved, gone (the schema is the baseline''s again) or superseded (by other drift, or another baseline). schema_diff(baseline_id, snapshot_id) has the differences. For operators. Personal columns: resolved_by, where a database role is one person''s.';

-- ---- the functions of operators ----

CREATE FUNCTION invite_sync.describe_schema(schemas text[] DEFAULT NULL) RETURNS jsonb
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'drift_describe_schema';
COMMENT ON FUNCTION invite_sync.describe_schema(text[]) IS
$doc$What the catalogs say now, as a snapshot, without storing it. schemas: names of schemas; NULL: all that are neither the system's nor an extension's. The objects in them, and what belongs to the whole database: extensions, event triggers, publications, the rights on the database, roles that are named in any of it with their memberships and settings. No OIDs, nothing that depends on the session or on PostgreSQL's major; objects that belong to an extension are left out. String literals, bodies and settings that may hold secrets are there as their SHA-256 only: docs/drift.md has the list, and what a snapshot does not hold.
Operators. Errors: not_permitted; 22004; 22023 for no schema or one of the system's; 3F000 for one that does not exist. Writes nothing; works in READ ONLY transactions and on a standby, and reads the catalogs as they are now in any isolation level. Locks what it deparses in ACCESS SHARE mode until it returns; what is dropped meanwhile is left out.$doc$;

CREATE FUNCTION invite_sync.snapshot_schema(schemas text[] DEFAULT NULL) RETURNS invite_sync.schema_snapshots
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'drift_snapshot_schema';
COMMENT ON FUNCTION invite_sync.snapshot_schema(text[]) IS
$doc$Store what describe_schema() says, and return the row of schema_snapshots. schemas: names of schemas; NULL: all that are neither the system's nor an extension's, also those that are created later. Nothing is compared with it until approve_snapshot(). Writes the event drift.snapshot_taken.
Operators. Errors: as describe_schema(). Locks as describe_schema().$doc$;

CREATE FUNCTION invite_sync.schema_diff(from_snapshot bigint, to_snapshot bigint DEFAULT NULL)
    RETURNS TABLE (change text, object_type text, object text, property text, from_value text, to_value text)
    LANGUAGE C STABLE PARALLEL UNSAFE ROWS 20 AS 'MODULE_PATHNAME', 'drift_schema_diff';
COMMENT ON FUNCTION invite_sync.schema_diff(bigint, bigint) IS
$doc$What differs between two snapshots, in stable order. from_snapshot, to_snapshot: ids of schema_snapshots; to_snapshot NULL: the catalogs as they are now, for the schemas of from_snapshot. change: added, removed, or changed with a row for each property. object_type: table, column, constraint, index, trigger, policy, rule, view, materialized view, sequence, function, type, schema, extension, role, database, default privileges, event trigger or publication. property: NULL where the whole object was added or removed, and then from_value or to_value is its definition, with all its parts.
Operators. Errors: not_permitted; 22004; 42704 when there is no such snapshot. Writes nothing; works in READ ONLY transactions and on a standby. Locks as describe_schema().$doc$;

CREATE FUNCTION invite_sync.approve_snapshot(snapshot_id bigint) RETURNS invite_sync.schema_snapshots
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'drift_approve_snapshot';
COMMENT ON FUNCTION invite_sync.approve_snapshot(bigint) IS
$doc$Make a snapshot the baseline: from now on check_drift() compares its schemas with it, in place of the baseline that they had. Again it changes nothing. An open alert about these schemas is approved, if it found just this snapshot, or else superseded; the next check opens another where there is still drift. Writes the event drift.approved. snapshot_id: schema_snapshots.id.
Operators. Errors: not_permitted; 22004; 42704 when there is no such snapshot. Waits for other approvals and checks.$doc$;

CREATE FUNCTION invite_sync.approve_drift(alert_id bigint) RETURNS invite_sync.drift_alerts
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'drift_approve_drift';
COMMENT ON FUNCTION invite_sync.approve_drift(bigint) IS
$doc$Accept the drift that an alert tells of: the snapshot that it found becomes the baseline, as by approve_snapshot(). What has changed since it was found is not accepted with it. Only an open alert can be; one that is approved already changes nothing. alert_id: drift_alerts.id. Returns the alert.
Operators. Errors: not_permitted; 22004; 42704 when there is no such alert; 55000 when it is not open. Waits for other approvals and checks.$doc$;

CREATE TYPE invite_sync.drift_check_result AS (checked integer, drifted integer, opened integer, resolved integer);
COMMENT ON TYPE invite_sync.drift_check_result IS
    'How many baselines check_drift() compared, how many of them differ, and how many alerts it opened and resolved.';

CREATE FUNCTION invite_sync.check_drift() RETURNS invite_sync.drift_check_result
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'drift_check';
COMMENT ON FUNCTION invite_sync.check_drift() IS
$doc$Compare the catalogs with every baseline. Drift opens an alert: a row in drift_alerts with a snapshot of what was found, an event (drift.detected) and NOTIFY invite_sync_drift with the alert's id, once, until the drift becomes another one or is gone (event drift.gone) or approved. A NOTICE says when no snapshot is approved.
Operators. Waits for other checks and approvals; locks as describe_schema().$doc$;

CREATE FUNCTION invite_sync.export_snapshot(snapshot_id bigint) RETURNS jsonb
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'drift_export_snapshot';
COMMENT ON FUNCTION invite_sync.export_snapshot(bigint) IS
$doc$A stored snapshot, for git, assert_no_drift() and import_snapshot(). snapshot_id: schema_snapshots.id.
Operators. Errors: not_permitted; 22004; 42704 when there is no such snapshot. Writes and locks nothing; works in READ ONLY transactions and on a standby.$doc$;

CREATE FUNCTION invite_sync.import_snapshot(snapshot jsonb) RETURNS invite_sync.schema_snapshots
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'drift_import_snapshot';
COMMENT ON FUNCTION invite_sync.import_snapshot(jsonb) IS
$doc$Store a snapshot of another database, as export_snapshot() or describe_schema() gave it: to compare with it, or to approve it as the baseline here. snapshot: is looked at before anything is stored. Writes the event drift.snapshot_imported.
Operators. Errors: not_permitted; 22004; 22023 for what is no snapshot, with what is wrong. Locks nothing.$doc$;

CREATE FUNCTION invite_sync.assert_no_drift(expected jsonb, ignore text[] DEFAULT '{}') RETURNS integer
    LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'drift_assert_none';
COMMENT ON FUNCTION invite_sync.assert_no_drift(jsonb, text[]) IS
$doc$Raise P0004 unless the schema is the expected one: for a step of CI, where psql stops at it (ON_ERROR_STOP). DETAIL has the differences, a line each, the first 100. expected: what export_snapshot() or describe_schema() gave, of this or another server; its schemas are compared. ignore: types of objects that may differ, as schema_diff() names them, like {role,database,extension} where the test's server is not the real one. Returns how many objects were compared, not counting the parts of tables.
Operators. Errors: not_permitted; 22004; 22023 for what is no snapshot, or an unknown type; P0004. Writes nothing; works in READ ONLY transactions and on a standby. Locks as describe_schema().$doc$;

CREATE PROCEDURE invite_sync.prune_snapshots(keep interval DEFAULT '90 days', keep_last integer DEFAULT 10, batch_size integer DEFAULT 100)
    LANGUAGE C AS 'MODULE_PATHNAME', 'drift_prune_snapshots';
COMMENT ON PROCEDURE invite_sync.prune_snapshots(interval, integer, integer) IS
$doc$Retention: delete the alerts that were resolved longer than keep ago, then the snapshots older than keep, batch_size (1 to 10000) at a time, each batch committed. The keep_last (0 or more) newest snapshots stay, and so do baselines and what an alert that is left names. Writes the event drift.pruned.
Operators, outside a transaction block. Errors: not_permitted; 22004, 22023, 2D000. Locks the rows it deletes; waits for approvals and checks.$doc$;

CREATE FUNCTION invite_sync.schedule_drift_check(schedule text DEFAULT '*/15 * * * *') RETURNS SETOF invite_sync.retry_job
    LANGUAGE C VOLATILE ROWS 2 AS 'MODULE_PATHNAME', 'drift_schedule_check';
COMMENT ON FUNCTION invite_sync.schedule_drift_check(text) IS
$doc$Let pg_cron call check_drift() in this database, and once a day prune_snapshots(). schedule: of the check, as pg_cron takes it; every 15 minutes by default. Again with the same schedule it changes nothing; with another it sets it.
The jobs run as the caller; when a superuser calls, as an operator who can log in and is no superuser, if there is one (postgres first). Returns the jobs. Errors: not_permitted; 22004; 0A000 when pg_cron is not in this database or too old, with what to do; 42501 when the caller may not use schema cron or cannot log in; 22023 for a schedule that pg_cron does not take.
Operators. Locks the jobs' rows in cron.job.$doc$;

CREATE FUNCTION invite_sync.unschedule_drift_check() RETURNS boolean
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'drift_unschedule_check';
COMMENT ON FUNCTION invite_sync.unschedule_drift_check() IS
$doc$Take back schedule_drift_check(). true when there were such jobs. pg_cron shows a role its own jobs only: a superuser unschedules everybody's. Operators. Locks the jobs' rows in cron.job.$doc$;
