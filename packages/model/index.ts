/** The words that every part of Elastic DNS shares: names, events, records, and the pure functions over them. */
export * from './container.ts';
export * from './errors.ts';
export * from './event.ts';
export * from './fold.ts';
export * from './instance.ts';
export * from './name.ts';
export * from './order.ts';
export * from './record.ts';
export * from './registry.ts';
export * from './result.ts';
export * from './view.ts';
