import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseBicep, readBicepParameters, valuesIn } from '../../infra/bicep.ts';
import { namesIn } from '../../infra/bicep-names.ts';
import { INFRA, readAllBicep, requireFile } from './files.ts';

const files = await readAllBicep();
const main = requireFile(files, 'main.bicep');
const examples = readdirSync(join(INFRA, 'examples'));

describe.each([...files])('infra/%s', (path, file) => {
  it('has no syntax error', () => {
    expect(file.syntaxErrors).toEqual([]);
  });

  it('uses only names that it declares, and all that it declares', async () => {
    expect(await namesIn(file.text)).toEqual({ unknown: [], unused: [] });
  });

  it('says of each parameter whether it is required, and describes each output', () => {
    const said = file.parameters.map(({ name, description }) => [
      name,
      /^(?:Required|Optional)(?=\. \S)/.exec(description ?? '')?.[0],
    ]);
    expect(said).toEqual(file.parameters.map(({ name, isRequired }) => [name, isRequired ? 'Required' : 'Optional']));
    expect(file.outputs.filter(({ description }) => description === undefined)).toEqual([]);
  });

  it('gives modules that exist parameters that they have, and all that they need', () => {
    for (const { symbol, path: target, parameters } of file.modules) {
      const module = requireFile(files, join(path, '..', target));
      const known = module.parameters.map(({ name }) => name);
      const required = module.parameters.filter(({ isRequired }) => isRequired).map(({ name }) => name);
      expect(known, symbol).toEqual(expect.arrayContaining([...parameters.keys()]));
      expect([...parameters.keys()], symbol).toEqual(expect.arrayContaining(required));
    }
  });

  it('reads outputs that its modules have', () => {
    for (const [, symbol = '', name = ''] of file.text.matchAll(/\b(\w+)!?\.outputs\.(\w+)/g)) {
      const target = file.modules.find((module) => module.symbol === symbol)?.path ?? '';
      const outputs = requireFile(files, join(path, '..', target)).outputs.map((output) => output.name);
      expect(outputs, `${symbol}.outputs.${name}`).toContain(name);
    }
  });
});

describe('modules', () => {
  it('are all used', () => {
    const used = [...files].flatMap(([path, { text }]) =>
      [...text.matchAll(/^(?:module \w+|import \{[^}]+\} from) '([^']+)'/gm)].map(([, target = '']) =>
        join(path, '..', target),
      ),
    );
    expect(new Set(used)).toEqual(new Set([...files.keys()].filter((path) => path !== 'main.bicep')));
  });

  it('that make a resource of their own say its id, name, group and region', () => {
    const standard = ['resourceId', 'name', 'resourceGroupName', 'location'];
    const withOutputs = [...files].filter(
      ([path, { outputs }]) => outputs.length > 0 && path !== 'modules/alerts.bicep',
    );
    expect(withOutputs.length).toBeGreaterThan(5);
    for (const [path, { outputs }] of withOutputs) {
      expect(
        outputs.slice(0, 4).map(({ name }) => name),
        path,
      ).toEqual(standard);
    }
  });

  it('hold no host name of a cloud', () => {
    const hosts = [...files].flatMap(([path, { text }]) => {
      const code = text.replaceAll(/\/\/.*$|^@description.*$/gm, '');
      return [
        ...code.matchAll(/\b[\w.-]*(?:windows\.net|azure\.(?:com|net|us|cn)|usgovcloudapi|chinacloudapi|azurecr)\b/g),
      ].map(([host]) => `${path}: ${host}`);
    });
    expect(hosts).toEqual([]);
  });
});

describe.each(examples)('infra/examples/%s', (name) => {
  it('sets parameters of main.bicep, and all that are required', async () => {
    const { using, values } = await readBicepParameters(join(INFRA, 'examples', name));
    expect(join('examples', using)).toBe('main.bicep');
    const required = main.parameters.filter(({ isRequired }) => isRequired).map((parameter) => parameter.name);
    expect(main.parameters.map((parameter) => parameter.name)).toEqual(expect.arrayContaining([...values.keys()]));
    expect([...values.keys()]).toEqual(expect.arrayContaining(required));
  });

  it('spells all values out', async () => {
    const { values } = await readBicepParameters(join(INFRA, 'examples', name));
    const kinds = [...values.values()].flatMap((value) => [...valuesIn(value)].map(({ kind }) => kind));
    expect(kinds.filter((kind) => kind !== 'object' && kind !== 'array' && kind !== 'literal')).toEqual([]);
  });
});

describe('the reader', () => {
  it('reports what is no Bicep, with its line', async () => {
    const { syntaxErrors } = await parseBicep("param a string\nresource b 'C/d@1' = {\n  name: \n");
    expect(syntaxErrors.length).toBeGreaterThan(0);
    expect(syntaxErrors[0]).toMatch(/^[23]: /);
  });

  it('reports names that are declared nowhere, and those that are used nowhere', async () => {
    const text =
      "param a string\nvar b = map([1], (x, i) => x + i + c)\nresource r 'A/b@1' = [for (z, q) in b: { name: z, p: f(q, w) }]\n";
    expect(await namesIn(text)).toEqual({ unknown: ['2: c', '3: f', '3: w'], unused: ['a'] });
  });
});
