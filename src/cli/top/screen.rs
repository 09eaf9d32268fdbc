//! The live screen of `haul top`.

use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, TableState};
use ratatui::{DefaultTerminal, Frame};

use super::address::AdminUrl;
use super::status::{Order, Status};
use super::table;

/// The state of the screen.
struct View {
    status: Status,
    /// Why the last look failed.
    trouble: Option<String>,
    order: Order,
    is_turned: bool,
    wanted: String,
    is_typing: bool,
    table: TableState,
}

/// Shows the server until a key ends it.
///
/// # Errors
/// The terminal fails.
pub(super) fn show(admin: &AdminUrl, status: Status, interval: Duration) -> io::Result<()> {
    let answers = look_every(admin.clone(), interval)?;
    let mut terminal = ratatui::try_init()?;
    let mut view = View {
        status,
        trouble: None,
        order: Order::Rate,
        is_turned: false,
        wanted: String::new(),
        is_typing: false,
        table: TableState::default(),
    };
    let shown = view.run(&mut terminal, &answers);
    ratatui::restore();
    shown
}

/// Fetches in a separate thread: a server that does not answer leaves the keys responsive.
fn look_every(admin: AdminUrl, interval: Duration) -> io::Result<Receiver<Result<Status, String>>> {
    let (sender, answers) = sync_channel(1);
    let look = move || {
        loop {
            std::thread::sleep(interval);
            let answer = admin.ask().and_then(|answer| Status::parse(&answer));
            if sender
                .send(answer.map_err(|error| error.to_string()))
                .is_err()
            {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("haul-look".into());
    thread.spawn(look).map(|_| answers)
}

impl View {
    fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        answers: &Receiver<Result<Status, String>>,
    ) -> io::Result<()> {
        loop {
            terminal.draw(|frame| self.draw(frame))?;
            let drawn = Instant::now();
            while drawn.elapsed() < REDRAW {
                if event::poll(KEYS)? {
                    match event::read()? {
                        Event::Key(key) if key.kind == KeyEventKind::Press && self.press(key) => {
                            return Ok(());
                        }
                        _ => {}
                    }
                    break;
                }
                match answers.try_recv() {
                    Ok(Ok(status)) => (self.status, self.trouble) = (status, None),
                    Ok(Err(trouble)) => self.trouble = Some(trouble),
                    Err(_) => continue,
                }
                break;
            }
        }
    }

    /// Returns whether that was the end.
    fn press(&mut self, key: KeyEvent) -> bool {
        match (key.code, self.is_typing) {
            (KeyCode::Char('c'), _) if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return true;
            }
            (KeyCode::Char(character), true) => self.wanted.push(character),
            (KeyCode::Backspace, true) => drop(self.wanted.pop()),
            (KeyCode::Enter, true) => self.is_typing = false,
            (KeyCode::Esc, _) if self.is_typing || !self.wanted.is_empty() => {
                self.wanted.clear();
                self.is_typing = false;
            }
            (KeyCode::Char('q') | KeyCode::Esc, _) => return true,
            (KeyCode::Char('s'), _) => self.order = self.order.next(),
            (KeyCode::Char('r'), _) => self.is_turned = !self.is_turned,
            (KeyCode::Char('/'), _) => self.is_typing = true,
            (KeyCode::Up, _) => self.table.select_previous(),
            (KeyCode::Down, _) => self.table.select_next(),
            (KeyCode::PageUp, _) => self.table.scroll_up_by(PAGE),
            (KeyCode::PageDown, _) => self.table.scroll_down_by(PAGE),
            _ => {}
        }
        false
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let picture = if area.height >= TALL { 3 } else { 0 };
        let [head, middle, rows, foot] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(picture),
            Constraint::Min(1),
            Constraint::Length(1),
        ])
        .areas(area);
        let strong = Style::new().add_modifier(Modifier::BOLD);
        let first = match &self.trouble {
            None => Line::styled(table::first_line(&self.status), strong),
            Some(trouble) => Line::styled(trouble.clone(), strong.reversed()),
        };
        let second = Line::raw(table::second_line(&self.status));
        frame.render_widget(Paragraph::new(vec![first, second]), head);
        let history = &self.status.bytes_per_second;
        let last = history.len().saturating_sub(usize::from(middle.width));
        frame.render_widget(Sparkline::default().data(&history[last..]), middle);
        let found = self.status.found(&self.wanted, self.order, self.is_turned);
        let is_wide = area.width >= WIDE;
        let lines = found.iter().map(|it| row(table::cells(it), is_wide));
        let names = ["CLIENT", "REQUEST", "DONE", "RATE", "LEFT", "WAITS FOR"].map(str::to_owned);
        let widths: &[u16] = match is_wide {
            true => &[21, 0, 5, 12, 9, 9],
            false => &[10, 0, 4, 11],
        };
        let widths = widths.iter().map(|width| match width {
            0 => Constraint::Min(8),
            width => Constraint::Length(*width),
        });
        let shown = Table::new(lines, widths)
            .header(row(names, is_wide).style(strong))
            .row_highlight_style(Style::new().reversed());
        frame.render_stateful_widget(shown, rows, &mut self.table);
        frame.render_widget(
            Line::raw(self.foot(found_of(found.len(), &self.status))),
            foot,
        );
    }

    fn foot(&self, found: String) -> String {
        let turned = if self.is_turned { " turned" } else { "" };
        match self.is_typing || !self.wanted.is_empty() {
            true => format!(
                "/{}{} {found}",
                self.wanted,
                if self.is_typing { "_" } else { "" }
            ),
            false => format!(
                "q end  s sort: {}{turned}  r turn  / find",
                self.order.word()
            ),
        }
    }
}

fn found_of(found: usize, status: &Status) -> String {
    format!(" {found} of {}", status.transfers.len())
}

fn row(cells: [String; 6], is_wide: bool) -> Row<'static> {
    let shown = if is_wide { 6 } else { 4 };
    let cells = cells.into_iter().take(shown).enumerate();
    Row::new(cells.map(|(at, cell)| match at {
        0 if !is_wide => Cell::from(table::host(&cell).to_owned()),
        2..=4 => Cell::from(Line::raw(cell).right_aligned()),
        _ => Cell::from(cell),
    }))
}

/// Columns from which on all cells have room.
const WIDE: u16 = 72;
/// Lines from which on the last minutes are drawn.
const TALL: u16 = 16;
/// A resized terminal is redrawn after at most this.
const REDRAW: Duration = Duration::from_secs(1);
const KEYS: Duration = Duration::from_millis(50);
const PAGE: u16 = 10;
