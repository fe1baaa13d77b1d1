/** The watcher as the command line sees it: run it, ask how it stands, take its lines out again, read them back. */
export { clean, type Cleaned, type CleanOptions } from './clean.ts';
export { parseHosts } from './hosts-text.ts';
export { runWatcher, type WatcherOptions, type WatcherStatus } from './watcher.ts';
