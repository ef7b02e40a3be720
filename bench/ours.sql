-- The first :targets targets become ours, by the word of postgres, who owns them.
SELECT added.target
  FROM unnest(ARRAY['public.profiles', 'public.accounts', 'public.members']::regclass[])
           WITH ORDINALITY AS t (relation, number),
       LATERAL invite_sync.add_target(t.relation, '{
           "email": "email",
           "full_name": "raw_user_meta_data ->> ''full_name''",
           "avatar_url": "raw_user_meta_data ->> ''avatar_url''",
           "created_at": "created_at"}') AS added
 WHERE t.number <= :targets;
