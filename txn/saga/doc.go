// Package saga runs transactions that take too long to be one: sagas.
package saga
