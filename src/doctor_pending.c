/* Checks that are not there yet: each comes with a file of its own, and this one goes. */
#include "compat.h"

#include "doctor.h"

void
doctor_check_tables(Doctor *doctor)
{
}

void
doctor_check_auth(Doctor *doctor, Jsonb *auth_settings)
{
}
