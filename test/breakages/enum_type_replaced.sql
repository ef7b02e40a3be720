-- breakage: the type of a mapped column is replaced by another of the same name under an open connection; nothing breaks
-- quarantine: nothing
-- plain: skip
-- mapping: {"email": "email", "status": "raw_app_meta_data->>'status'"}
-- columns: {"raw_app_meta_data": "{\"provider\": \"email\", \"status\": \"trial\"}"}

-- @setup
CREATE TYPE public.status AS ENUM ('active', 'closed');
ALTER TABLE public.profiles ADD COLUMN status public.status;

-- @break
ALTER TABLE public.profiles ALTER COLUMN status TYPE text;
DROP TYPE public.status;
CREATE TYPE public.status AS ENUM ('trial', 'active');
ALTER TABLE public.profiles ALTER COLUMN status TYPE public.status USING status::public.status;
