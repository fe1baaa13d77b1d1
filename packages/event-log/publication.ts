/**
 * What every log refuses of a publication before it takes it, so that both adapters refuse the same.
 * Called by `nats.ts` and `embedded.ts`.
 */
import { InvalidInputError, quote } from '@elastic-dns/model';
import type { Publication } from './log.ts';

/** The two adapters know an id by at most this many characters; so headers have a bound (`nats.ts`). */
export const MAX_ID_LENGTH = 200;
const TOKEN = /^[\w-]+$/;
const TYPE = /^[\w-]+(?:\.[\w-]+)*$/;
const ID = /^[\x21-\x7e]+$/;

/** One token of a subject, so that a name can neither widen nor narrow what it is put into (S11). */
export function checkNode(node: string): void {
  if (!TOKEN.test(node)) {
    throw new InvalidInputError(
      `node ${quote(node)} cannot be in a subject: letters, digits, "-" and "_" only`,
    );
  }
}

/** The publication's data as bytes; throws `InvalidInputError` for one that no log of this limit will ever take (S13). */
export function encodePublication(publication: Publication, maxBytes: number): Uint8Array {
  checkNode(publication.node);
  const { type, id } = publication;
  if (!TYPE.test(type)) {
    throw new InvalidInputError(
      `type ${quote(type)} cannot end a subject: words of letters, digits, "-", "_"; dots between`,
    );
  }
  if (id.length > MAX_ID_LENGTH || !ID.test(id)) {
    throw new InvalidInputError(
      `id ${quote(id)} is not 1-${MAX_ID_LENGTH} printable ASCII characters without a space`,
    );
  }
  const data = Buffer.from(publication.data);
  if (data.length > maxBytes) {
    throw new InvalidInputError(
      `event ${quote(id)} has ${data.length} bytes; the log takes at most ${maxBytes}`,
    );
  }
  return data;
}
