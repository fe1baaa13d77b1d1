/**
 * How commands print: tables for people, JSON for programs. Whatever comes from labels, events or the store goes
 * through here, so that nothing of it can steer a terminal.
 */
import { styleText } from 'node:util';

/** A standard stream, or what a test collects text with. */
export interface Output {
  write(text: string): unknown;
  isTTY?: boolean;
  /** Width of the terminal in characters. */
  columns?: number;
}

/** Longest piece of foreign text in one place. */
const MAX_TEXT = 1000;

/** Foreign text with everything but printable ASCII escaped, and cut where it is too long. */
export function printable(text: string, maxLength = MAX_TEXT): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength - 3)}...` : text;
  return cut.replace(/[^\x20-\x7e]/g, escapeUnit);
}

/** JSON in ASCII only, which is the same JSON and safe on any terminal. */
export function toJson(value: unknown, indent = 0): string {
  return JSON.stringify(value, null, indent).replace(/[^\n\x20-\x7e]/g, escapeUnit);
}

function escapeUnit(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

export interface Column<Row> {
  title: string;
  text: (row: Row) => string;
  /**
   * What may be done to fit a terminal: `drop` leaves the column out, `cut` shortens it. Default: neither, for what is
   * of no use in part, such as names and addresses.
   */
  whenNarrow?: 'drop' | 'cut';
}

const GAP = '  ';
/** No column is cut to less than this. */
const MIN_WIDTH = 12;

/** How a table is laid out. */
export interface Layout {
  /** Width to cut it to, in characters; null: nothing is ever cut. */
  width: number | null;
  /** Whether titles stand out in bold. */
  isStyled: boolean;
}

/** For a terminal its width, and styles unless they are unwanted (https://no-color.org); plain text elsewhere. */
export function layoutFor(output: Output, env: NodeJS.ProcessEnv): Layout {
  const isTerminal = output.isTTY === true;
  return {
    width: isTerminal ? (output.columns ?? null) : null,
    isStyled: isTerminal && (env['NO_COLOR'] ?? '') === '',
  };
}

/** Rows under their titles. A line that cannot be made to fit is left to the terminal to wrap. */
export function formatTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  { width, isStyled }: Layout,
): string {
  const measured = columns.map((column) => {
    const cells = rows.map((row) => printable(column.text(row)));
    return { ...column, cells, width: Math.max(column.title.length, ...cells.map(({ length }) => length)) };
  });
  const shown = width === null ? measured : fit(measured, width);
  const format = (cellOf: (column: (typeof shown)[number]) => string): string =>
    shown
      .map((column) => printable(cellOf(column), column.width).padEnd(column.width))
      .join(GAP)
      .trimEnd();
  const titles = format(({ title }) => title);
  const lines = rows.map((_, index) => format(({ cells }) => cells[index] ?? ''));
  return [isStyled ? styleText('bold', titles, { validateStream: false }) : titles, ...lines]
    .map((line) => `${line}\n`)
    .join('');
}

/** Leaves columns out, the widest first, then cuts, always at the widest, until a line fits or no more can be done. */
function fit<Sized extends { width: number; whenNarrow?: 'drop' | 'cut' }>(
  columns: readonly Sized[],
  available: number,
): Sized[] {
  const shown = columns.map((column) => ({ ...column }));
  const excess = (): number =>
    sum(shown.map(({ width }) => width)) + GAP.length * (shown.length - 1) - available;
  const widest = (how: 'drop' | 'cut'): Sized | undefined =>
    shown.filter(({ whenNarrow }) => whenNarrow === how).sort((a, b) => b.width - a.width)[0];
  while (excess() > 0) {
    const dropped = widest('drop');
    const cut = widest('cut');
    if (dropped) shown.splice(shown.indexOf(dropped), 1);
    else if (cut && cut.width > MIN_WIDTH) cut.width--;
    else break;
  }
  return shown;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

/** `5s`, `3m`, `7h`, `12d`: one unit is enough for people. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 2 * 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 2 * 86_400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}
