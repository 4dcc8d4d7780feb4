/** What the backend needs of a Datastore client, and what a guarded commit is made of. */

/** A key of `google.datastore.v1`. Without `partitionId` it is in the database and namespace of the locks. */
export interface DatastoreKey {
  /**
   * Where the entity lives.
   *
   * @default {undefined} the project, database and namespace of the locks' backend
   */
  readonly partitionId?:
    | {
      /** The project. */
      readonly projectId?: string | null | undefined;
      /** The database; empty for the default one. */
      readonly databaseId?: string | null | undefined;
      /** The namespace; empty for the default one. */
      readonly namespaceId?: string | null | undefined;
    }
    | null
    | undefined;
  /** From the ancestor to the entity: each with a `kind`, and a `name` or an `id`. */
  readonly path?:
    | readonly {
      /** The kind. */
      readonly kind?: string | null | undefined;
      /** The name, if it has one. */
      readonly name?: string | null | undefined;
      /** The numeric id, if it has one. */
      readonly id?: unknown;
    }[]
    | null
    | undefined;
}

/** An entity of `google.datastore.v1`: `{ key, properties: { cents: { integerValue: 500 } } }`. */
export interface DatastoreEntity {
  /** The key. */
  readonly key?: DatastoreKey | null | undefined;
  /** The properties, each a `Value` of the API: `{ stringValue: "x" }`, `{ integerValue: 5 }`, … */
  readonly properties?: Readonly<Record<string, object>> | null | undefined;
}

/**
 * What the backend needs of a client: a `v1.DatastoreClient` of `npm:@google-cloud/datastore`. Each call takes a request
 * of `google.datastore.v1` and resolves to an array that begins with the answer.
 */
export interface DatastoreApi {
  /** Reads entities by key. */
  lookup(request: object, options?: object): Promise<readonly unknown[]>;
  /** Writes entities. */
  commit(request: object, options?: object): Promise<readonly unknown[]>;
  /** Reads entities by kind and key. */
  runQuery(request: object, options?: object): Promise<readonly unknown[]>;
  /** Begins a transaction. */
  beginTransaction(request: object, options?: object): Promise<readonly unknown[]>;
  /** Gives a transaction up. */
  rollback(request: object, options?: object): Promise<readonly unknown[]>;
}

/** What a guarded commit came to. */
export type DatastoreCommit =
  /** Everything is written. */
  | { readonly ok: true }
  /** Nothing is written: an entity to insert was there already, or one to update was not. */
  | { readonly ok: false };

/** A transaction while it is put together: what to write when the lock has proven to be held. */
export interface DatastoreTransaction {
  /** Reads entities in the transaction; `undefined` for one that is not there. */
  lookup(...keys: DatastoreKey[]): Promise<readonly (DatastoreEntity | undefined)[]>;
  /** Writes a new entity; one that is there already makes the commit `{ ok: false }`. */
  insert(entity: DatastoreEntity): this;
  /** Writes over an entity; one that is not there makes the commit `{ ok: false }`. */
  update(entity: DatastoreEntity): this;
  /** Writes an entity, new or not. */
  upsert(entity: DatastoreEntity): this;
  /** Deletes an entity, if it is there. */
  delete(key: DatastoreKey): this;
}
