/** Of one of Azurite's accounts; the services that need no more of the configuration load this alone. */
export const accountConnectionString = (
  { name, key }: Readonly<{ name: string; key: string }>,
  blobPort: number,
): string =>
  `DefaultEndpointsProtocol=http;AccountName=${name};AccountKey=${key};BlobEndpoint=http://127.0.0.1:${blobPort}/${name};`;
