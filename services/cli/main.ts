/** The entry of the command `elastic-dns`. */
import { Command } from 'commander';

await new Command('elastic-dns').version('0.1.0').parseAsync();
