//! What differs between two texts, line by line.

/// Lines of `old` with `-` in front, lines of `new` with `+`, and what they share around them.
pub(super) fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    // How many lines the rests share, from each pair of places on.
    let mut shared = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for a in (0..old.len()).rev() {
        for b in (0..new.len()).rev() {
            let longer = shared[a + 1][b].max(shared[a][b + 1]);
            shared[a][b] = if old[a] == new[b] { shared[a + 1][b + 1] + 1 } else { longer };
        }
    }
    let mut lines = Vec::new();
    let (mut a, mut b) = (0, 0);
    while a < old.len() || b < new.len() {
        if a < old.len() && b < new.len() && old[a] == new[b] {
            lines.push((' ', old[a]));
            (a, b) = (a + 1, b + 1);
        } else if b == new.len() || (a < old.len() && shared[a + 1][b] >= shared[a][b + 1]) {
            lines.push(('-', old[a]));
            a += 1;
        } else {
            lines.push(('+', new[b]));
            b += 1;
        }
    }
    let changed: Vec<_> = lines.iter().enumerate().filter(|(_, (mark, _))| *mark != ' ').map(|(at, _)| at).collect();
    let is_near = |at: usize| changed.iter().any(|one| one.abs_diff(at) <= AROUND);
    let mut text = String::new();
    let mut last = None;
    for (at, (mark, line)) in lines.iter().enumerate().filter(|(at, _)| is_near(*at)) {
        if last.is_some_and(|last| last + 1 != at) {
            text.push_str("...\n");
        }
        text.push_str(&format!("{mark} {line}\n"));
        last = Some(at);
    }
    text
}

/// How many lines are shown around one that differs.
const AROUND: usize = 2;

#[cfg(test)]
mod tests {
    use super::diff;

    #[test]
    fn what_differs_is_shown_with_a_little_around_it() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\n";
        let new = "a\nB\nc\nd\ne\nf\ng\nh\ni\nj\n";
        assert_eq!(diff(old, new), "  a\n- b\n+ B\n  c\n  d\n...\n  h\n  i\n+ j\n");
        assert_eq!(diff("a\n", "a\n"), "");
    }
}
