-- breakage: a status arrives that the enum does not know
-- quarantine: insert 22P02
-- mapping: {"email": "email", "status": "raw_app_meta_data->>'status'"}
-- columns: {"raw_app_meta_data": "{\"provider\": \"email\", \"status\": \"trial\"}"}

-- @setup
CREATE TYPE public.status AS ENUM ('active', 'closed');
ALTER TABLE public.profiles ADD COLUMN status public.status;

-- @mend
ALTER TYPE public.status ADD VALUE 'trial';
