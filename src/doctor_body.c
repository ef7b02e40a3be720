/*-------------------------------------------------------------------------
 *
 * doctor_body.c
 *	  Triggers on auth.users and what they reach: are their functions sound?
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "doctor.h"

const DoctorReach *
doctor_reaches(Doctor *doctor, int *n)
{
	*n = list_length(doctor->reached);
	return NULL;
}

const Oid *
doctor_reached(Doctor *doctor, int *n)
{
	*n = 0;
	return NULL;
}

void
doctor_check_bodies(Doctor *doctor)
{
}
