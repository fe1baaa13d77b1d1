/** The entry of the command `elastic-dns`. */
import { run } from './run.ts';

// A reader that has seen enough (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});
// Whatever did not stop in its time must not keep the process.
process.exit(await run(process.argv.slice(2)));
