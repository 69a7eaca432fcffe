package sqlite

import "database/sql"

// DB is the store's own connection, whose limits a test may tighten.
func (s *Store) DB() *sql.DB { return s.db }
