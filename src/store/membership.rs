//! What belongs to the extension, as the catalog knows it.

/// A query for the oids in a catalog (`pg_class`, `pg_proc`) of the objects that belong to the
/// extension. Names are not enough: anyone who may create in a schema can add an object that has
/// the name of ours.
macro_rules! members {
    ($catalog:literal) => {
        concat!(
            "SELECT d.objid FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
            WHERE e.extname OPERATOR(pg_catalog.=) 'api_tokens'
                AND d.deptype OPERATOR(pg_catalog.=) 'e'
                AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.",
            $catalog,
            "'::pg_catalog.regclass
                AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass"
        )
    };
}
pub(super) use members;
