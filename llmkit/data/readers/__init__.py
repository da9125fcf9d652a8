"""Readers: files, folders, package resources and Hub data sets to rows of text."""
