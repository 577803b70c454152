-- Who was billed, as the billing profile said when the invoice was made (beside `customer`, the name). Invoices from
-- before have the name alone. customer_address: lines separated by line feeds.
ALTER TABLE invoices ADD COLUMN customer_address TEXT NOT NULL DEFAULT '';
ALTER TABLE invoices ADD COLUMN customer_country TEXT NOT NULL DEFAULT '';
ALTER TABLE invoices ADD COLUMN customer_tax_number TEXT NOT NULL DEFAULT '';
