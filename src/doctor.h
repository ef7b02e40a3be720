/*-------------------------------------------------------------------------
 *
 * doctor.h
 *	  Why signups, updates, logins or deletions fail or would fail.
 *
 * One run collects findings. The checks are in files of their own; each asks
 * catalogs or has something analysed, and none lets another one fail.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INVITE_SYNC_DOCTOR_H
#define INVITE_SYNC_DOCTOR_H

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "plan.h"

typedef enum DoctorSeverity
{
	DOCTOR_ERROR,				/* it fails, for everybody or for some */
	DOCTOR_WARNING,				/* it may fail, or is not what it seems */
	DOCTOR_INFO					/* on purpose, or not looked at */
} DoctorSeverity;

typedef struct Doctor
{
	MemoryContext cxt;			/* of findings and of all that is kept for the run */
	Oid			asker;			/* the role that asks, an operator */
	bool		superuser;		/* is it one? */
	Oid			auth_users;		/* auth.users; invalid: there is none */
	Oid			auth_role;		/* its owner, the auth server's role; invalid: none, or a superuser */
	bool		email_optional; /* users without an address can sign up, or have */
	List	   *findings;		/* private to doctor.c */
	List	   *reached;		/* of DoctorReach; private to doctor_body.c */
	List	   *made;			/* of BodyMade; by the bodies that were looked at so far */
	List	   *awaited;		/* of BodyAwaited; by them, as well */
	struct BodyRun *bodies;		/* private to doctor_body.c */
} Doctor;

/*
 * Add a finding. area: trigger, function, target, table, auth, delete, login, role, setting or probe. object: its
 * qualified and quoted identifier. finding: one lower-case part of a sentence that names the cause; detail: sentences;
 * fix (or NULL): SQL that runs as it stands, made with quote_identifier(). Ids only, no address, no metadata value.
 * The strings are copied. What was found before with the same object and finding, and the same detail or fix, is not
 * told twice; nor at all what has no object (NULL), since that was dropped meanwhile.
 */
extern void doctor_finding(Doctor *doctor, DoctorSeverity severity, const char *area,
						   const char *object, const char *finding, const char *detail,
						   const char *fix);

/*
 * A probe failed at one of these objects (of char *), with this SQLSTATE (NULL:
 * with none) and message: the findings that say why, but for those of severity
 * info, get this sentence as well. false: there is none.
 */
extern bool doctor_confirm(Doctor *doctor, List *objects, const char *sqlstate, const char *message, const char *sentence);

/* Hand over all that was found: severity, area, object, finding, detail, fix. */
typedef void (*DoctorFound) (void *arg, DoctorSeverity severity, const char *const *text);
extern void doctor_each(const Doctor *doctor, DoctorFound fn, void *arg);

/*
 * Add what a statement over our own tables or the catalogs returns: severity,
 * area, object, finding, detail, fix. Runs (read-only) in the scope that the
 * caller has entered; opens its own SPI connection.
 */
extern void doctor_run(Doctor *doctor, SavedPlan *plan, Datum *values, const char *nulls);

/*
 * Look at one object: fn(doctor, arg) in a subtransaction that is always undone
 * (what it allocated in doctor->cxt stays). Where it fails, that is a finding of
 * severity info about this object, and false; what must end the statement does.
 */
extern bool doctor_contained(Doctor *doctor, const char *area, const char *object,
							 void (*fn) (Doctor *doctor, void *arg), void *arg);

/* May what belongs to this role be analysed in its scope? Not a superuser's, but for one. */
extern bool doctor_may_look(const Doctor *doctor, Oid owner);

/* What new sessions of this role have for a setting, by ALTER ROLE or ALTER DATABASE; NULL: nothing of their own. */
extern char *doctor_role_setting(Oid role, const char *name);

/* The value of a setting in an array of name=value (proconfig, setconfig), or NULL. */
extern char *doctor_setting(ArrayType *settings, const char *name);

/* Qualified, quoted names; NULL: it is gone. */
extern char *doctor_relation_name(Oid relid);	/* public.profiles */
extern char *doctor_function_name(Oid funcid);	/* public.f(uuid) */

/* What pg_get_functiondef(), pg_get_triggerdef() say of it; NULL: it is gone. */
extern char *doctor_definition(PGFunction print, Oid object);

/* For people: its name, or its number where it is gone, as whose owner it may still stand somewhere. */
extern char *doctor_role_name(Oid role);

/*
 * Tables that statements of the auth server write by way of triggers, as whom,
 * and how: by bodies that were analysed, on auth.users and on what they write.
 * As the target's owner for the targets of a sync. Known after doctor_check_bodies().
 */
typedef struct DoctorReach
{
	Oid			relid;
	Oid			role;			/* as whom: the definer, or the auth role */
	int			commands;		/* 1 << CmdType of what writes it */
	int			events;			/* 1 << CmdType of what the auth server does then */
} DoctorReach;

extern const DoctorReach *doctor_reaches(Doctor *doctor, int *n);

/* Is the table among them? */
extern bool doctor_is_reached(Doctor *doctor, Oid relid);

/* The checks. */
extern void doctor_check_bodies(Doctor *doctor);
/* Of these only what guard_trigger() guards, which may fail as a sync may. */
extern void doctor_check_guarded(Doctor *doctor);
extern void doctor_check_tables(Doctor *doctor);
extern void doctor_check_auth(Doctor *doctor, Jsonb *auth_settings);	/* may be NULL */
/* Raises for settings that are no auth server's; before the run, which contains what its checks raise. */
extern void doctor_require_settings(Jsonb *auth_settings);

/* Do these settings let in users who have no email address? */
extern bool doctor_lets_in_without_email(Jsonb *settings);

extern void doctor_check_probe(Doctor *doctor);

#endif							/* INVITE_SYNC_DOCTOR_H */
