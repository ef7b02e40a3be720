-- An ORM's tables: names in mixed case, keys made by the application, and a copy of the user that has every column it needs.
create type public."UserRole" as enum ('USER', 'ADMIN');

create table public."User" (
  "id" text primary key,
  "authId" uuid unique references auth.users (id) on delete cascade,
  "email" text,
  "role" public."UserRole" not null default 'USER',
  "createdAt" timestamp(3) not null default current_timestamp,
  "updatedAt" timestamp(3) not null
);

create table public."Post" (
  "id" serial primary key,
  "title" varchar(255) not null,
  "authorId" text not null references public."User" ("id") on update cascade on delete cascade
);

create function public.create_orm_user() returns trigger
language plpgsql security definer set search_path = '' as $fn$
begin
  insert into public."User" ("id", "authId", "email", "updatedAt")
  values ('u' || replace(new.id::text, '-', ''), new.id, new.email, now())
  on conflict ("id") do update set "email" = excluded."email", "updatedAt" = now();
  return new;
end
$fn$;

create trigger create_orm_user after insert on auth.users
  for each row execute function public.create_orm_user();
