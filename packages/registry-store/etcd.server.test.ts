import { spawnEtcd } from '@elastic-dns/testkit/servers';
import { storeContract } from './contract.ts';
import { EtcdStore } from './etcd.ts';

storeContract('etcd', async () => {
  const server = await spawnEtcd();
  return {
    open: () => new EtcdStore({ endpoints: [server.url] }),
    async compact(_store, revision) {
      await fetch(`${server.url}/v3/kv/compaction`, {
        method: 'POST',
        body: JSON.stringify({ revision: String(revision), physical: true }),
      });
    },
    remove: () => server.remove(),
  };
});
