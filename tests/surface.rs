//! The SQL surface, frozen: every object of the extension with its signature, properties, rights
//! and comment. A change here is a change of the contract; see README, "Development".

use api_tokens_tests::*;

/// Walks pg_depend, so that nothing that belongs to the extension can be missed.
const OBJECTS: &str = "
    SELECT identity.type || ' ' || identity.identity || coalesce(function.line, '')
        || coalesce(relation.line, '') || coalesce(E'\\n    -- ' || obj_description(d.objid, d.classid::regclass::name), '') AS line
    FROM pg_depend d
    CROSS JOIN pg_identify_object(d.classid, d.objid, 0) identity
    LEFT JOIN LATERAL (
        SELECT E'\\n    (' || pg_get_function_arguments(p.oid) || ')' || E'\\n    -> ' || pg_get_function_result(p.oid)
            || E'\\n    ' || concat_ws(' ', l.lanname,
                CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
                CASE p.proparallel WHEN 's' THEN 'parallel-safe' WHEN 'r' THEN 'parallel-restricted' ELSE 'parallel-unsafe' END,
                CASE WHEN p.proisstrict THEN 'strict' END,
                CASE WHEN p.prosecdef THEN 'security-definer' END,
                array_to_string(p.proconfig, ' '),
                CASE WHEN has_function_privilege('public', p.oid, 'EXECUTE') THEN 'public' ELSE 'closed' END) AS line
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE d.classid = 'pg_proc'::regclass AND p.oid = d.objid) function ON true
    LEFT JOIN LATERAL (
        SELECT coalesce(E'\\n    ' || (SELECT string_agg(a.attnum || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END, E'\\n    ' ORDER BY a.attnum)
            FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0), '')
            || coalesce(E'\\n    ' || (SELECT string_agg(pg_get_indexdef(i.indexrelid), E'\\n    ' ORDER BY i.indexrelid::regclass::text)
            FROM pg_index i WHERE i.indrelid = c.oid), '')
            || coalesce(E'\\n    ' || (SELECT string_agg(o.conname || ' ' || pg_get_constraintdef(o.oid), E'\\n    ' ORDER BY o.conname)
            FROM pg_constraint o WHERE o.conrelid = c.oid AND o.contype = 'c'), '') AS line
        FROM pg_class c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind IN ('r', 'v')) relation ON true
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
        AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'api_tokens')
        AND identity.type <> 'type'
    ORDER BY identity.type, identity.identity";

#[test]
fn the_surface_is_what_was_agreed() {
    let db = Database::new();
    let mut sql = db.connect();
    let actual = column(&mut sql, OBJECTS, &[]).join("\n") + "\n";
    let path = root().join("tests/surface.txt");
    let agreed = std::fs::read_to_string(&path).unwrap_or_default();
    if actual != agreed {
        let proposed = root().join("target/surface.txt");
        std::fs::write(&proposed, &actual).expect("write");
        panic!("the surface differs: compare {} with {}", path.display(), proposed.display());
    }
}

#[test]
fn every_object_is_commented_and_every_definer_pins_its_path() {
    let db = Database::new();
    let mut sql = db.connect();
    let uncommented =
        "SELECT p.proname FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
            AND d.classid = 'pg_proc'::regclass JOIN pg_extension e ON e.oid = d.refobjid
        WHERE e.extname = 'api_tokens' AND obj_description(p.oid, 'pg_proc') IS NULL";
    assert!(column(&mut sql, uncommented, &[]).is_empty());
    let unpinned = "SELECT proname FROM pg_proc WHERE prosecdef AND proname LIKE 'api\\_%'
        AND (proconfig[1] = 'search_path=pg_catalog, pg_temp') IS NOT TRUE";
    assert!(column(&mut sql, unpinned, &[]).is_empty());
}

#[test]
fn tables_and_sequences_are_dumped_and_hold_nothing_at_first() {
    let db = Database::new();
    let mut sql = db.connect();
    let missing = "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'api_tokens'::regnamespace
        AND c.relkind IN ('r', 'S') AND c.oid <> ALL ((SELECT extconfig FROM pg_extension WHERE extname = 'api_tokens')::oid[])";
    assert!(column(&mut sql, missing, &[]).is_empty());
    let rows = "SELECT (SELECT count(*) FROM api_tokens.tokens) + (SELECT count(*) FROM api_tokens.events)
        + (SELECT count(*) FROM api_tokens.vault_deks) + (SELECT count(*) FROM api_tokens.vault_secrets)
        + (SELECT count(*) FROM api_tokens.vault_versions)";
    assert_eq!(number(&mut sql, rows, &[]), 0);
    let triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'api_tokens.%'";
    assert_eq!(number(&mut sql, triggers, &[]), 0);
}

#[test]
fn column_numbers_are_those_the_library_was_built_with() {
    let db = Database::new();
    let mut sql = db.connect();
    for (file, table, count) in [
        ("columns.rs", "tokens", 15),
        ("vault/deks.rs", "vault_deks", 3),
        ("vault/secrets.rs", "vault_secrets", 5),
        ("vault/versions.rs", "vault_versions", 3),
    ] {
        let source = std::fs::read_to_string(root().join("src/store").join(file)).expect(file);
        let constants = source.lines().filter_map(|line| {
            let constant = line.trim().strip_prefix("pub const ")?;
            constant.trim_end_matches(';').split_once(": i16 = ")
        });
        let mut checked = 0;
        for (name, number) in constants {
            let actual =
                "SELECT attname FROM pg_attribute WHERE attrelid = ('api_tokens.' || $1)::regclass
                AND attnum = $2::text::smallint";
            assert_eq!(text(&mut sql, actual, &[&table, &number]), name.to_lowercase());
            checked += 1;
        }
        assert!(checked >= count, "{file}: {checked}");
    }
}

#[test]
fn the_touched_column_lies_where_the_library_writes() {
    let db = Database::new();
    let mut sql = db.connect();
    let before = "SELECT sum(attlen) FILTER (WHERE attlen > 0 AND attnotnull) || ' of ' || count(*)
        FROM pg_attribute WHERE attrelid = 'api_tokens.tokens'::regclass AND attnum BETWEEN 1 AND 4";
    assert_eq!(text(&mut sql, before, &[]), "48 of 4");
    let pair = "SELECT string_agg(attnum || attname, ' ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'api_tokens.tokens'::regclass AND attnum IN (1, 4, 5)";
    assert_eq!(text(&mut sql, pair, &[]), "1token_id 4last_used_at 5use_count");
    let source = std::fs::read_to_string(root().join("src/store/columns.rs")).expect("columns.rs");
    assert!(source.contains("FixedColumn { number: LAST_USED_AT, offset: 16 + 16 + 8 }"));
}
