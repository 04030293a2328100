-- What a repository was asked to be encrypted with, in ECR's words.
ALTER TABLE repositories ADD COLUMN encryption_type TEXT NOT NULL DEFAULT 'AES256';
