/** What the hosts write to: lines of an event and its fields. An error is given as `err`. */
export interface HostLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  fatal(fields: object, message: string): void;
}
