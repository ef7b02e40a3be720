# Triggers of an application on auth.users, of many kinds, and what they are
# under guard: for the tests that carry them into another cluster.
package InviteSyncGuarded;

use strict;
use warnings;

use Exporter 'import';
use InviteSyncLife qw(as_role value user_id signup);
use InviteSyncTest qw(run_as change_email_sql delete_user_sql);

our @EXPORT_OK = qw(application_triggers guard_all trigger_names trigger_picture heard);

# What guard_trigger() is called with, by trigger.
my %guard = (
	'on_signup' => '',
	'On "Sign-up"' => '',
	'before_change' => '',
	'after_all' => '',
	'on_delete' => '',
	'asleep' => '',
	'always' => '',
	'gate_domain' => q{, on_failure => 'refuse', let_through => ARRAY['23514']},
	'gate_invited' => q{, on_failure => 'let_in'},
	'moddatetime' => q{, on_failure => 'let_in'},
);

sub trigger_names { return sort keys %guard }

# Each says in public.heard that it ran, how, and as whom.
sub application_triggers
{
	my ($node, $dbname) = @_;
	value($node, $dbname, <<'SQL');
CREATE EXTENSION moddatetime SCHEMA extensions;
CREATE SCHEMA "Odd "" Schema";
CREATE TABLE public.heard (n serial PRIMARY KEY, what text);
CREATE TABLE public.invited_only (email text);
GRANT INSERT ON public.heard TO supabase_auth_admin;
GRANT USAGE ON SEQUENCE public.heard_n_seq TO supabase_auth_admin;
GRANT SELECT ON public.invited_only TO supabase_auth_admin;
ALTER TABLE auth.users ADD COLUMN modified_at timestamp;

CREATE FUNCTION public.hear() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.heard (what) VALUES (concat_ws(' ', TG_NAME, TG_WHEN, TG_OP, TG_LEVEL, TG_ARGV, current_user, NEW.email, OLD.email));
	RETURN NEW;
END $$;
CREATE FUNCTION "Odd "" Schema"."Hear ""It"""() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
	INSERT INTO heard (what) VALUES (concat_ws(' ', TG_NAME, current_user, current_setting('search_path'), NEW.email));
	RETURN NULL;
END $$;
CREATE FUNCTION public.hear_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.heard (what) SELECT concat_ws(' ', TG_NAME, TG_LEVEL, count(*), min(email)) FROM fresh;
	RETURN NULL;
END $$;
CREATE FUNCTION public.refuse_domain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.email LIKE '%@evil.example' THEN
		RAISE EXCEPTION 'not from there' USING ERRCODE = '42501';
	END IF;
	RETURN NEW;
END $$;
CREATE FUNCTION public.invited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM public.invited_only) AND NOT EXISTS (SELECT FROM public.invited_only i WHERE i.email = NEW.email) THEN
		RETURN NULL;
	END IF;
	RETURN NEW;
END $$;

CREATE TRIGGER on_signup AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.hear('a', 'the ''quoted'' "one"', '\x', '');
CREATE TRIGGER "On ""Sign-up""" AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION "Odd "" Schema"."Hear ""It"""();
CREATE TRIGGER before_change BEFORE UPDATE OF email, phone ON auth.users FOR EACH ROW WHEN (OLD.email IS DISTINCT FROM NEW.email) EXECUTE FUNCTION public.hear();
CREATE TRIGGER after_all AFTER INSERT ON auth.users REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION public.hear_all();
CREATE TRIGGER on_delete AFTER DELETE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.hear();
CREATE TRIGGER asleep AFTER INSERT OR UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION public.hear();
CREATE TRIGGER always AFTER UPDATE ON auth.users FOR EACH ROW WHEN (NEW.email LIKE '%changed%') EXECUTE FUNCTION public.hear();
CREATE TRIGGER gate_domain BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.refuse_domain();
CREATE TRIGGER gate_invited BEFORE INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.invited();
CREATE TRIGGER moddatetime BEFORE UPDATE ON auth.users FOR EACH ROW EXECUTE FUNCTION extensions.moddatetime('modified_at');
ALTER TABLE auth.users DISABLE TRIGGER asleep;
ALTER TABLE auth.users ENABLE ALWAYS TRIGGER always;
COMMENT ON TRIGGER on_signup ON auth.users IS 'of the application: it''s ours';
ALTER TRIGGER on_signup ON auth.users DEPENDS ON EXTENSION moddatetime;
SQL
	return;
}

sub guard_all
{
	my ($node, $dbname) = @_;
	for my $trigger (trigger_names())
	{
		as_role($node, $dbname, 'postgres', "SELECT invite_sync.guard_trigger(\$t\$$trigger\$t\$$guard{$trigger})");
	}
	return;
}

# All that the catalogs say of these triggers, but their numbers.
sub trigger_picture
{
	my ($node, $dbname) = @_;
	return value($node, $dbname, <<'SQL');
SET search_path = pg_catalog;
SELECT concat_ws(' ', t.tgname, pg_get_triggerdef(t.oid), t.tgenabled, t.tgtype, t.tgattr, t.tgnargs, t.tgargs, t.tgoldtable, t.tgnewtable,
	t.tgdeferrable, t.tginitdeferred, obj_description(t.oid, 'pg_trigger'), 'depends',
	(SELECT string_agg(concat_ws(' ', pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), d.deptype), ', '
		ORDER BY pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), d.deptype)
	 FROM pg_depend d WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid))
FROM pg_trigger t WHERE t.tgrelid = 'auth.users'::regclass AND NOT t.tgisinternal AND lower(t.tgname) !~ '^invite_sync_' ORDER BY t.tgname
SQL
}

# A user comes, changes and goes; what the triggers said to it, and how the gates
# answered. Nothing of it is left but in auth.users' identities.
sub heard
{
	my ($node, $dbname, $n) = @_;
	my $id = user_id('d', $n);
	my @said;
	my $life = run_as($node, $dbname, 'supabase_auth_admin', join "\n",
		signup('d', $n, 'd@example.com'), change_email_sql($id, 'changed@example.com'), delete_user_sql($id));
	push @said, "life $life->{sqlstate} $life->{message}";
	my $evil = run_as($node, $dbname, 'supabase_auth_admin', signup('d', $n, 'd@evil.example'));
	push @said, "gate $evil->{sqlstate} $evil->{message}";
	value($node, $dbname, q{INSERT INTO public.invited_only VALUES ('someone@example.com')});
	my $uninvited = run_as($node, $dbname, 'supabase_auth_admin', signup('d', $n, 'd@example.com', bare => 1));
	push @said, "uninvited $uninvited->{sqlstate} " . value($node, $dbname, "SELECT count(*) FROM auth.users WHERE id = '$id'");
	value($node, $dbname, 'DELETE FROM public.invited_only');
	push @said, value($node, $dbname, 'SELECT what FROM public.heard ORDER BY n');
	value($node, $dbname, 'TRUNCATE public.heard');
	return join "\n", @said;
}

1;
