-- breakage: a NOT NULL column is added to a target whose names all need quotes
-- quarantine: insert 23502
-- target: "App's Data"."User ""Profiles"""
-- key: The Id
-- mapping: {"select": "email", "E-Mail": "email"}
-- plain: skip it does not quote

-- @target
CREATE SCHEMA "App's Data";
CREATE TABLE "App's Data"."User ""Profiles""" (
	"The Id" uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
	"select" text,
	"E-Mail" text
);

-- @break
ALTER TABLE "App's Data"."User ""Profiles""" ADD COLUMN "Plan" text NOT NULL DEFAULT 'free';
ALTER TABLE "App's Data"."User ""Profiles""" ALTER COLUMN "Plan" DROP DEFAULT;

-- @mend
ALTER TABLE "App's Data"."User ""Profiles""" ALTER COLUMN "Plan" SET DEFAULT 'free';
