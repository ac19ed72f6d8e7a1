/** Pure. Which messages a subscription takes: its rules, of which one must match. */
import type { Message } from 'rhea';
import { TidemarkError } from '../../errors.ts';
import type { CorrelationFilterConfig, RuleConfig } from './config.ts';
import { sqlFilter } from './sql-filter.ts';

export type Filter = (message: Message) => boolean;

/** System properties by the names that filters use, lower-cased, and the AMQP fields behind them. */
export const SYSTEM_FIELDS: Readonly<Record<string, keyof Message>> = {
  messageid: 'message_id',
  correlationid: 'correlation_id',
  label: 'subject',
  subject: 'subject',
  to: 'to',
  replyto: 'reply_to',
  sessionid: 'group_id',
  replytosessionid: 'reply_to_group_id',
  contenttype: 'content_type',
};

/** Every property that is named must be equal; empty strings count as not named, as in the emulator's sample. */
export function correlationFilter(filter: CorrelationFilterConfig): Filter {
  const { Properties: custom = {}, ...system } = filter;
  const tests: Filter[] = [];
  for (const [name, wanted] of Object.entries(system)) {
    const field = SYSTEM_FIELDS[name.toLowerCase()];
    if (wanted === undefined || wanted === '' || field === undefined) continue;
    tests.push((message) => message[field] === wanted);
  }
  for (const [name, wanted] of Object.entries(custom)) {
    tests.push((message) => message.application_properties?.[name] === wanted);
  }
  return (message) => tests.every((test) => test(message));
}

/** @throws TidemarkError BROKER_CONFIG_INVALID for a rule with an action, or one whose filter is missing or unreadable. */
export function ruleFilter(where: string, rule: RuleConfig): Filter {
  const { FilterType, SqlFilter, CorrelationFilter, Action } = rule.Properties;
  const fail = (what: string): TidemarkError =>
    new TidemarkError('BROKER_CONFIG_INVALID', `rule ${where}/${rule.Name}: ${what}`);
  if (Action !== undefined && Action !== null) throw fail('rule actions are not supported by the local broker');
  if (FilterType === 'Sql') {
    if (SqlFilter === undefined) throw fail('SqlFilter is missing');
    return sqlFilter(SqlFilter.SqlExpression);
  }
  if (CorrelationFilter === undefined) throw fail('CorrelationFilter is missing');
  return correlationFilter(CorrelationFilter);
}
