//! Which commands migrate a database, as far as their words tell.
//!
//! Invariant: what undoes migrations, or empties a database, is not taken for the migration of a release.

/// What commands that migrate a database say.
const MIGRATING: [&str; 10] = [
    "migrat",
    "db:prepare",
    "db:setup",
    "db push",
    "schema:update",
    "alembic",
    "flyway",
    "liquibase",
    "dbmate",
    "sqitch",
];

/// Whether a name or a command is that of a migration: one that goes forward or, see [`undoes`], back. What an option is given is not (`-q data_migrations`), unless it is what is run.
pub(crate) fn migrates(words: &[String]) -> bool {
    let text = words.join(" ").to_lowercase();
    // What works on queues names them behind `-q` (in lower case).
    let works =
        ["sidekiq", "celery", "worker", "resque", "queue", "consum", "horizon"].iter().any(|what| text.contains(what));
    let mut of_option = false;
    let mut said: Vec<&str> = Vec::new();
    for word in
        text.split(|char: char| char.is_whitespace() || matches!(char, '"' | '\'' | ';' | '&' | '|' | '(' | ')'))
    {
        let is_option = word.starts_with('-');
        let (name, _) = word.split_once('=').filter(|_| is_option).unwrap_or((word, ""));
        if !of_option && !["no-", "skip-", "without-"].iter().any(|not| name.trim_start_matches('-').starts_with(not)) {
            said.push(name);
        }
        let names_queues = ["queue", "topic", "channel", "stream"].iter().any(|what| word.contains(what));
        of_option = is_option && !word.contains('=') && (names_queues || (word == "-q" && works));
    }
    let said = said.join(" ");
    // As the begin of a word: `db:migrate`, `run_migrations`, `dbmigrate`, and no `immigration`.
    let begins = |(at, _): (usize, &str)| {
        let before = said[..at].rsplit(|char: char| !char.is_ascii_alphanumeric()).next().unwrap_or_default();
        ["", "db", "auto"].contains(&before)
    };
    MIGRATING.iter().any(|word| said.match_indices(word).any(begins))
}

/// Whether a shell's command goes on after what migrates.
pub(crate) fn goes_on(words: &[String]) -> bool {
    let text = words.join(" ").to_lowercase();
    let last = MIGRATING.iter().filter_map(|word| text.rfind(word)).max();
    last.is_some_and(|at| text[at..].contains("&&") || text[at..].contains(';'))
}

/// What is said behind that where it goes back, or begins anew with an empty database.
const UNDOING: [&str; 13] = [
    "reset",
    "fresh",
    "refresh",
    "rollback",
    "undo",
    "revert",
    "down",
    "downgrade",
    "drop",
    "clean",
    "wipe",
    "truncate",
    "zero",
];

/// How many words behind the one that migrates are looked at: options come first, as in `migrate -path db down`.
const BEHIND: usize = 4;

/// Whether a command undoes migrations, or empties the database: `prisma migrate reset`, `db:migrate:undo:all`, `alembic downgrade -1`,
/// `migrate.js down`, `db:drop`. What is done beside that, behind `&&`, is another command, and behind `||` it is done only when that has failed.
pub(crate) fn undoes(words: &[String]) -> bool {
    let text = words.join(" ").to_lowercase();
    let is_undone = |word: &str| UNDOING.contains(&word);
    let first = text.split("||").next().unwrap_or_default();
    first.split([';', '&', '|', '\n']).any(|part| {
        let words: Vec<_> =
            part.split(|char: char| char.is_whitespace() || matches!(char, '"' | '\'' | '(' | ')')).collect();
        words.iter().enumerate().any(|(at, word)| {
            let of_a_database = word.strip_prefix("db:").is_some_and(|rest| rest.split(':').any(is_undone));
            let is_migration = MIGRATING.iter().any(|what| word.contains(what)) && !word.starts_with('-');
            // A name is all in one: `migrate-down`, `db:migrate:undo`.
            let own = is_migration && word.split([':', '-', '_', '.', '/']).any(is_undone);
            let behind = words[at + 1..].iter().take(BEHIND);
            let said = is_migration && behind.clone().any(|word| is_undone(word));
            let is_of_a_developer =
                is_migration && (word.ends_with(":dev") || behind.take(1).any(|word| *word == "dev"));
            of_a_database || own || said || is_of_a_developer
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn only_what_is_run_makes_a_migration_of_a_command() {
        for (command, is_it) in [
            ("bundle exec sidekiq -q default -q data_migrations", false),
            ("python3 forms_consumer.py immigration", false),
            ("php artisan queue:work --queue=migrations", false),
            ("php artisan queue:work --queue migrations", false),
            ("rails server --skip-migrations", false),
            ("bundle exec rails db:migrate", true),
            ("python manage.py migrate --noinput", true),
            ("sh -c 'python manage.py migrate && gunicorn app'", true),
            ("./bin/run_migrations", true),
            ("npx prisma db push", true),
            ("python -m alembic upgrade head", true),
            ("./server --migrate", true),
            ("npm run -s db:migrate", true),
            ("rake -q db:migrate", true),
            ("./dbmigrate", true),
        ] {
            assert_eq!(migrates(&words(command)), is_it, "{command}");
        }
    }

    #[test]
    fn what_undoes_migrations_is_known_and_what_only_sounds_like_it_is_not() {
        for (command, is_it) in [
            ("npx prisma migrate reset --force", true),
            ("npx prisma migrate dev", true),
            ("alembic downgrade -1", true),
            ("npx sequelize db:migrate:undo:all", true),
            ("knex migrate:rollback --all", true),
            ("php artisan migrate:fresh --seed", true),
            ("migrate -path db down -all", true),
            ("flyway clean migrate", true),
            ("migrate-down", true),
            ("rails db:drop db:create db:migrate", true),
            ("python manage.py migrate app zero", true),
            ("npm run migrate:dev", true),
            ("rake db:reset", true),
            ("alembic upgrade head || alembic downgrade -1", false),
            ("rake db:migrate assets:clean", false),
            ("python manage.py migrate refresh_views", false),
            ("npx prisma migrate deploy", false),
            ("alembic upgrade head", false),
            ("php artisan migrate --force", false),
            ("python manage.py migrate && python manage.py clean_sessions", false),
            ("rails db:migrate --downcase", false),
            ("knex migrate:latest", false),
        ] {
            assert_eq!(undoes(&words(command)), is_it, "{command}");
        }
    }
}
