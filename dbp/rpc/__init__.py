"""The wire: conversion, errors, channels, and rank 0's link to the service."""
