//! The Regions' names.

/// Those that a slip may mean; of others, the form of their names is looked at alone.
const REGIONS: [&str; 40] = [
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eusc-de-east-1",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
    "us-iso-east-1",
];

/// The words before a Region's number.
const DIRECTIONS: [&str; 9] =
    ["north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest", "central"];

/// Why a Region's name is none; nothing where it is one, or may be a new one's.
pub(super) fn mistake(name: &str) -> Option<String> {
    let parts: Vec<_> = name.split('-').collect();
    let is_number = |part: &str| !part.is_empty() && part.chars().all(|char| char.is_ascii_digit());
    let is_word = |part: &&str| part.len() > 1 && part.chars().all(|char| char.is_ascii_lowercase());
    if let [words @ .., direction, number] = parts.as_slice()
        && !words.is_empty()
        && words.iter().all(is_word)
        && DIRECTIONS.contains(direction)
        && is_number(number)
    {
        return None;
    }
    Some(match shared::text::nearest(name, REGIONS) {
        Some(near) => format!("there is no Region `{name}`: did you mean `{near}`?"),
        None => format!("`{name}` is no Region's name: write it as `eu-central-1`"),
    })
}

#[cfg(test)]
mod tests {
    use super::mistake;

    #[test]
    fn a_slip_in_a_regions_name_is_told_and_one_that_may_be_new_is_not() {
        for good in ["us-east-1", "eu-central-1", "us-east-9", "zz-central-1", "us-gov-west-1"] {
            assert_eq!(mistake(good), None, "{good}");
        }
        let slip = "there is no Region `eu-centrl-1`: did you mean `eu-central-1`?";
        assert_eq!(mistake("eu-centrl-1").as_deref(), Some(slip));
        let city = "`Frankfurt` is no Region's name: write it as `eu-central-1`";
        assert_eq!(mistake("Frankfurt").as_deref(), Some(city));
    }
}
