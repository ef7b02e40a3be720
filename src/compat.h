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
#include "storage/proc.h"
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
#else
#define compat_namespace_aclcheck(nsp, role, mode) \
	pg_namespace_aclcheck((nsp), (role), (mode))
#define compat_proc_aclcheck(proc, role, mode) \
	pg_proc_aclcheck((proc), (role), (mode))
#endif

/* 17 put the parts of a virtual transaction id together. */
#if PG_VERSION_NUM >= 170000
#define compat_my_lxid() (MyProc->vxid.lxid)
#else
#define compat_my_lxid() (MyProc->lxid)
#endif

#endif							/* INVITE_SYNC_COMPAT_H */
