//! Tables for people: figures that can be read, in columns.

/// Three digits after the point for small figures, thousands apart for large ones.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 {
        return format!("{value:.3}");
    }
    if value.abs() < 1000.0 {
        return if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.1}") };
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Lines of cells under each other, the first column to the left and the others to the right.
pub(crate) fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let pad = widths[column] - cell.chars().count();
            let (before, after) = if column == 0 { (0, pad) } else { (pad, 0) };
            text += &format!("{}{cell}{}  ", " ".repeat(before), " ".repeat(after));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(1234567.8), "1,234,568");
        assert_eq!(number(-1000.0), "-1,000");
        assert_eq!(number(0.1234), "0.123");
        assert_eq!(number(42.0), "42");
        assert_eq!(number(42.26), "42.3");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [vec!["", "b"], vec!["µs", "1,000"]].map(|line| line.into_iter().map(str::to_owned).collect());
        assert_eq!(align(&lines), "        b\nµs  1,000\n");
    }
}
