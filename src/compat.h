/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Every difference between the supported server versions lives here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_COMPAT_H
#define INVITE_SYNC_COMPAT_H

#include "postgres.h"

#include "common/jsonapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "utils/guc_tables.h"
#include "utils/rel.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "invite_sync needs PostgreSQL 15 or newer"
#endif

/* From 16 the semantic actions of the JSON parser return a code. */
#if PG_VERSION_NUM >= 160000
typedef JsonParseErrorType compat_json_result;
#define COMPAT_JSON_RETURN	return JSON_SUCCESS
#else
typedef void compat_json_result;
#define COMPAT_JSON_RETURN	return
#endif

/* 17 lets the caller own the lexer; we always let it be allocated. */
static inline JsonLexContext *
compat_json_lex(char *json, int len, int encoding)
{
#if PG_VERSION_NUM >= 170000
	return makeJsonLexContextCstringLen(NULL, json, len, encoding, true);
#else
	return makeJsonLexContextCstringLen(json, len, encoding, true);
#endif
}

/* 18 puts the module's name and version into its magic block. */
#if PG_VERSION_NUM >= 180000
#define COMPAT_MODULE_MAGIC(modname, modversion) \
	PG_MODULE_MAGIC_EXT(.name = (modname), .version = (modversion))
#else
#define COMPAT_MODULE_MAGIC(modname, modversion) PG_MODULE_MAGIC
#endif

/* 16 folded the per-type privilege checks into one. */
#if PG_VERSION_NUM >= 160000
#define compat_namespace_aclcheck(nsp, role, mode) \
	object_aclcheck(NamespaceRelationId, (nsp), (role), (mode))
#define compat_proc_aclcheck(proc, role, mode) \
	object_aclcheck(ProcedureRelationId, (proc), (role), (mode))
#define compat_database_aclcheck(database, role, mode) \
	object_aclcheck(DatabaseRelationId, (database), (role), (mode))
#else
#define compat_namespace_aclcheck(nsp, role, mode) \
	pg_namespace_aclcheck((nsp), (role), (mode))
#define compat_proc_aclcheck(proc, role, mode) \
	pg_proc_aclcheck((proc), (role), (mode))
#define compat_database_aclcheck(database, role, mode) \
	pg_database_aclcheck((database), (role), (mode))
#endif

/* 17 has a privilege for what was the owner's alone. */
#if PG_VERSION_NUM >= 170000
#define compat_may_refresh(relid, role) \
	(pg_class_aclcheck((relid), (role), ACL_MAINTAIN) == ACLCHECK_OK)
#elif PG_VERSION_NUM >= 160000
#define compat_may_refresh(relid, role) \
	object_ownercheck(RelationRelationId, (relid), (role))
#else
#define compat_may_refresh(relid, role) pg_class_ownercheck((relid), (role))
#endif

/* 16 lets it answer softly. */
#if PG_VERSION_NUM >= 160000
#define compat_qualified_name(text) stringToQualifiedNameList((text), NULL)
#else
#define compat_qualified_name(text) stringToQualifiedNameList(text)
#endif

/* What a query needs rights on: 16 took that out of its range table. */
typedef struct CompatPerms
{
	Oid			relid;
	AclMode		required;
	Oid			check_as;
	Bitmapset  *selected;
	Bitmapset  *inserted;
	Bitmapset  *updated;
} CompatPerms;

#if PG_VERSION_NUM >= 160000
typedef RTEPermissionInfo compat_perms_node;
#define compat_perms_list(query) ((query)->rteperminfos)
#define compat_perms_relid(p) ((p)->relid)
#else
typedef RangeTblEntry compat_perms_node;
#define compat_perms_list(query) ((query)->rtable)
#define compat_perms_relid(p) ((p)->rtekind == RTE_RELATION ? (p)->relid : InvalidOid)
#endif

static inline List *
compat_query_perms(Query *query)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, compat_perms_list(query))
	{
		compat_perms_node *node = (compat_perms_node *) lfirst(lc);
		CompatPerms *p;

		if (!OidIsValid(compat_perms_relid(node)) || node->requiredPerms == 0)
			continue;
		p = (CompatPerms *) palloc(sizeof(CompatPerms));
		p->relid = node->relid;
		p->required = node->requiredPerms;
		p->check_as = node->checkAsUser;
		p->selected = node->selectedCols;
		p->inserted = node->insertedCols;
		p->updated = node->updatedCols;
		result = lappend(result, p);
	}
	return result;
}

/* 18 runs an AFTER trigger as the role that was current when it was queued, not when it fires. */
static inline bool
compat_trigger_keeps_role(void)
{
#if PG_VERSION_NUM >= 180000
	return true;
#else
	return false;
#endif
}

/* 18 keeps the compiled functions of all languages alike: the version of pg_proc's row that one was made of. */
#if PG_VERSION_NUM >= 180000
#define compat_compiled_xmin(func) (&(func)->cfunc.fn_xmin)
#else
#define compat_compiled_xmin(func) (&(func)->fn_xmin)
#endif

/* 17 put the parts of a virtual transaction id together. */
#if PG_VERSION_NUM >= 170000
#define compat_my_lxid() (MyProc->vxid.lxid)
#else
#define compat_my_lxid() (MyProc->lxid)
#endif

/* 16 keeps settings in a hash table, and says how many there are along with them. */
static inline struct config_generic **
compat_settings(int *n)
{
#if PG_VERSION_NUM >= 160000
	return get_guc_variables(n);
#else
	*n = GetNumConfigOptions();
	return get_guc_variables();
#endif
}

#endif							/* INVITE_SYNC_COMPAT_H */
