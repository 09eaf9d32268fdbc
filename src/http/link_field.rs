//! `Link` (RFC 8288), for the mirrors of a file (RFC 6249).

/// A link of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its target, which may be relative.
    pub(crate) target: String,
    /// Its relation types, in lower case.
    pub(crate) relations: Vec<String>,
    /// The media type of its target.
    pub(crate) media_type: Option<String>,
    /// Its priority (RFC 6249 section 3.1): 1 is the best.
    pub(crate) priority: u32,
}

/// The links of a field's value. What is not understood ends the reading.
pub(crate) fn parse(value: &str) -> Vec<Link> {
    let (mut links, mut rest) = (Vec::new(), value);
    while let Some((target, behind)) = target(rest) {
        let mut link = Link {
            target: target.to_owned(),
            relations: Vec::new(),
            media_type: None,
            priority: LAST_PRIORITY,
        };
        rest = behind.trim_start();
        while let Some(parameter) = rest.strip_prefix(';') {
            let (name, value, behind) = read_parameter(parameter);
            match name.to_ascii_lowercase().as_str() {
                // Only the first one counts (RFC 8288 section 3.3).
                "rel" if link.relations.is_empty() => {
                    let relations = value.split_ascii_whitespace();
                    link.relations = relations.map(str::to_ascii_lowercase).collect();
                }
                "type" => link.media_type = Some(value.to_ascii_lowercase()),
                "pri" => link.priority = value.parse().unwrap_or(LAST_PRIORITY),
                _ => {}
            }
            rest = behind.trim_start();
        }
        links.push(link);
    }
    links
}

/// The address at the front, and the rest.
fn target(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    text.strip_prefix('<')?.split_once('>')
}

/// The name and value of a parameter, and the rest.
fn read_parameter(text: &str) -> (&str, String, &str) {
    let end = text.find(['=', ';', ',']).unwrap_or(text.len());
    let (name, rest) = (text[..end].trim(), &text[end..]);
    let Some(value) = rest.strip_prefix('=') else {
        return (name, String::new(), rest);
    };
    let value = value.trim_start();
    let Some(quoted) = value.strip_prefix('"') else {
        let end = value.find([';', ',']).unwrap_or(value.len());
        return (name, value[..end].trim().to_owned(), &value[end..]);
    };
    let (mut plain, mut characters) = (String::new(), quoted.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (name, plain, &quoted[at + 1..]),
            '\\' => plain.extend(characters.next().map(|(_, escaped)| escaped)),
            other => plain.push(other),
        }
    }
    (name, plain, "")
}

const LAST_PRIORITY: u32 = 999_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_with_commas_quotes_and_junk() {
        let links = parse(
            "<http://a/x,y>; rel=duplicate; pri=2; geo=de, </m.meta4>; rel=\"describedby up\"; \
             type=\"application/metalink4+xml\",,<b>;rel=\"x\\\"y\";rel=duplicate, <c>",
        );
        let found: Vec<_> = links
            .iter()
            .map(|it| (&*it.target, it.relations.join(" ")))
            .collect();
        let expected = [
            ("http://a/x,y", "duplicate"),
            ("/m.meta4", "describedby up"),
            ("b", "x\"y"),
            ("c", ""),
        ];
        assert_eq!(
            found,
            expected.map(|(target, relations)| (target, relations.to_owned()))
        );
        assert_eq!(links[0].priority, 2);
        assert_eq!(
            links[1].media_type.as_deref(),
            Some("application/metalink4+xml")
        );
        for junk in [
            "",
            "x",
            "<a",
            "<a>;rel=\"",
            "<a>;=;;",
            "<a>;rel",
            "<ä>;é=\"\\",
        ] {
            parse(junk);
        }
    }
}
