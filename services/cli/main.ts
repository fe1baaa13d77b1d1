/** The entry of the command `elastic-dns`. */
import { EXIT } from './exit-codes.ts';
import { run } from './run.ts';

// A reader that has seen enough (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  process.stderr.write(`elastic-dns: the output could not be written: ${error.message}\n`);
  process.exit(EXIT.failed);
});
const exitCode = await run(process.argv.slice(2));
// What went wrong with the last of the output is told only now.
await new Promise((resolve) => process.stdout.write('', resolve));
// Whatever did not stop in its time must not keep the process.
process.exit(exitCode);
