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
}

const GAP = '  ';
/** No column is made narrower than this to fit a terminal. */
const MIN_WIDTH = 6;

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

/** Rows under their titles. */
export function formatTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  { width, isStyled }: Layout,
): string {
  const cells = rows.map((row) => columns.map(({ text }) => printable(text(row))));
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...cells.map((line) => line[index]?.length ?? 0)),
  );
  if (width !== null) fit(widths, width);
  const format = (line: readonly string[]): string =>
    line
      .map((cell, index) => printable(cell, widths[index]).padEnd(widths[index] ?? 0))
      .join(GAP)
      .trimEnd();
  const titles = format(columns.map(({ title }) => title));
  const shownTitles = isStyled ? styleText('bold', titles, { validateStream: false }) : titles;
  return [shownTitles, ...cells.map(format)].map((line) => `${line}\n`).join('');
}

/** Takes from the widest column until the line fits, or nothing can be taken any more. */
function fit(widths: number[], available: number): void {
  const gaps = GAP.length * (widths.length - 1);
  for (let excess = sum(widths) + gaps - available; excess > 0; excess--) {
    const widest = widths.indexOf(Math.max(...widths));
    const width = widths[widest] ?? 0;
    if (width <= MIN_WIDTH) return;
    widths[widest] = width - 1;
  }
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
